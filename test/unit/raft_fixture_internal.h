/*-------------------------------------------------------------------------
 *
 * raft_fixture_internal.h
 *	  Shared by the files of the fixture: raft_fixture.c moves things,
 *	  raft_fixture_events.c asks, raft_fixture_check.c compares with the rules.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_RAFT_FIXTURE_INTERNAL_H
#define PGRAFT_TEST_RAFT_FIXTURE_INTERNAL_H

#include "raft_fixture.h"

/* raft_fixture.c */
void		send_packet(Cluster *cluster, Packet *packet);

/* raft_fixture_copy.c */
void	   *copy_bytes(const void *data, size_t length);
struct raft_entry *copy_entries(const struct raft_entry *entries, size_t n);
void		free_entries(const struct raft_entry *entries, size_t n);
Packet	   *copy_packet(const struct raft_message *message);
void		free_packet(Packet *packet);
void		free_packets(Packet **list);
void		append_packet(Packet **list, Packet *packet);
void		blob_set(Blob *blob, size_t offset, const unsigned char *data, size_t length);

/* raft_fixture_check.c */
void		check_node(Cluster *cluster, Node *node);
void		check_promise(Cluster *cluster, const struct raft_message *message);
void		apply_entry(Cluster *cluster, Node *node, const struct raft_entry *entry);
unsigned char *make_snapshot(Cluster *cluster, raft_u64 state, raft_index index);
void		check_snapshot_bytes(Cluster *cluster, Node *node,
								 const struct raft_snapshot_meta *meta);

#endif							/* PGRAFT_TEST_RAFT_FIXTURE_INTERNAL_H */
