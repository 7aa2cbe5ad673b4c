/*-------------------------------------------------------------------------
 *
 * raft_fixture_internal.h
 *	  Shared by raft_fixture.c (moves things) and raft_fixture_check.c
 *	  (compares them with the rules).
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

/* raft_fixture_check.c */
void		check_node(Cluster *cluster, Node *node);
void		check_promise(Cluster *cluster, const struct raft_message *message);
void		apply_entry(Cluster *cluster, Node *node, const struct raft_entry *entry);
unsigned char *make_snapshot(Cluster *cluster, raft_u64 state, raft_index index);
void		check_snapshot_bytes(Cluster *cluster, Node *node,
								 const struct raft_snapshot_meta *meta);

#endif							/* PGRAFT_TEST_RAFT_FIXTURE_INTERNAL_H */
