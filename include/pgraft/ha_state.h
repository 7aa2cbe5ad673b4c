/*-------------------------------------------------------------------------
 *
 * ha_state.h
 *	  What the parts of high availability inside the consensus worker share:
 *	  state.c, catchup.c, failover.c, lease.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HA_STATE_H
#define PGRAFT_HA_STATE_H

#include "pgraft/ha_document.h"
#include "pgraft/worker.h"

/* state.c: valid until the next command is applied */
extern const PgraftHaDocument *pgraft_ha_state_document(void);
extern void pgraft_ha_state_set_loaded(bool is_loaded);
extern void pgraft_ha_state_obey(void);

/*
 * catchup.c.  Asks up to where the log is committed.  Answers whose token is that
 * of a question (question.h) go to catch_up_answered() and lease_answered(), with
 * the member that the connection belongs to.
 */
extern bool pgraft_ha_ask_leader(PgraftNode *node, const struct raft_status *status,
								 uint64 token);
extern raft_time pgraft_ha_catch_up(PgraftNode *node, const struct raft_status *status);
extern void pgraft_ha_catch_up_answered(raft_id from, uint64 token, bool good,
										raft_index index);

/* propose.c: appends the encoded log entry */
extern void pgraft_ha_encode_entry(StringInfo buffer, const PgraftHaCommand *command);

/* lease.c: raises the fence of this server; returns when to look again */
extern raft_time pgraft_ha_renew_lease(PgraftNode *node, const struct raft_status *status);
extern void pgraft_ha_lease_answered(raft_id from, uint64 token, bool good, raft_index index);

#endif							/* PGRAFT_HA_STATE_H */
