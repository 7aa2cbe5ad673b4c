/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The pgraft.* configuration parameters (src/worker/settings.c).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SETTINGS_H
#define PGRAFT_SETTINGS_H

#define PGRAFT_BATCH_MAX 4096	/* greatest pgraft.batch_size */

extern char *pgraft_cluster_id;
extern int	pgraft_node_id;		/* 0 = not set */
extern char *pgraft_name;		/* "" = "node" followed by the node id */
extern char *pgraft_address;
extern int	pgraft_port;
extern char *pgraft_listen_address; /* "" = pgraft.address */
extern char *pgraft_initial_cluster;
extern char *pgraft_data_dir;	/* "" = data_directory + ".pgraft" */
extern int	pgraft_election_timeout;	/* ms */
extern int	pgraft_heartbeat_interval;	/* ms */
extern int	pgraft_max_log_entries; /* entries kept behind a snapshot */
extern int	pgraft_snapshot_interval;	/* applied entries between snapshots */
extern int	pgraft_batch_size;	/* proposals taken into one write */
extern int	pgraft_max_entry_size;	/* kB: limit of one command */
extern int	pgraft_cache_size;	/* kB: entry cache */
extern int	pgraft_request_timeout; /* ms */
extern int	pgraft_max_requests;	/* slots of the request queue */
extern bool pgraft_fast_detection;
extern char *pgraft_ssl_cert_file;
extern char *pgraft_ssl_key_file;
extern char *pgraft_ssl_ca_file;
extern char *pgraft_ssl_crl_file;

extern void pgraft_define_settings(void);

/* This member's name, pgraft.name or its default; buffer of RAFT_NAME_SIZE. */
extern void pgraft_own_name(char *buffer);

/* Directory of log and snapshots; palloc'd. */
extern char *pgraft_storage_directory(void);

#endif							/* PGRAFT_SETTINGS_H */
