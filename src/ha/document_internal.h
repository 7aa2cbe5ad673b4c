/*-------------------------------------------------------------------------
 *
 * document_internal.h
 *	  What the files of the cluster document share: document.c (transitions),
 *	  document_switchover.c, document_sync.c (sync sets), document_mode.c (modes,
 *	  positions), document_wal.c (history, whose WAL fits), document_check.c
 *	  (names, invariants).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_DOCUMENT_INTERNAL_H
#define PGRAFT_DOCUMENT_INTERNAL_H

#include "pgraft/ha_document.h"

/* ---- document.c ---- */
/* > 0: a has more than b */
extern int	pgraft_ha_compare_reports(const PgraftHaMember *a, const PgraftHaMember *b);
/* SEALING to ASSIGNED */
extern void pgraft_ha_assign(PgraftHaDocument *document, uint32 id);
/* To SEALING of the next one. */
extern void pgraft_ha_begin_epoch(PgraftHaDocument *document, const PgraftHaCommand *command,
								  const char *reason);
/* While sealing: assigns the primary if the reports say who it is. */
extern bool pgraft_ha_settle(PgraftHaDocument *document);

/* ---- document_switchover.c ---- */
extern PgraftHaVerdict pgraft_ha_apply_switchover(PgraftHaDocument *document,
												  const PgraftHaCommand *command,
												  const char **why);
extern PgraftHaVerdict pgraft_ha_apply_switchover_target(PgraftHaDocument *document,
														 const PgraftHaCommand *command,
														 const char **why);
extern PgraftHaVerdict pgraft_ha_apply_demoted(PgraftHaDocument *document,
											   const PgraftHaCommand *command,
											   const char **why);
extern PgraftHaVerdict pgraft_ha_apply_drained(PgraftHaDocument *document,
											   const PgraftHaCommand *command,
											   const char **why);
extern PgraftHaVerdict pgraft_ha_apply_abort(PgraftHaDocument *document,
											 const PgraftHaCommand *command,
											 const char **why);
extern PgraftHaVerdict pgraft_ha_apply_schedule(PgraftHaDocument *document,
												const PgraftHaCommand *command,
												const char **why);
extern PgraftHaVerdict pgraft_ha_apply_cancel_schedule(PgraftHaDocument *document,
													   const PgraftHaCommand *command,
													   const char **why);
extern void pgraft_ha_end_switchover(PgraftHaDocument *document);
extern void pgraft_ha_end_schedule(PgraftHaDocument *document);

/* ---- document_mode.c ---- */
extern PgraftHaVerdict pgraft_ha_apply_positions(PgraftHaDocument *document,
												 const PgraftHaCommand *command,
												 const char **why);
extern PgraftHaVerdict pgraft_ha_apply_mode(PgraftHaDocument *document,
											const PgraftHaCommand *command,
											const char **why);
extern PgraftHaVerdict pgraft_ha_apply_accept_lag(PgraftHaDocument *document,
												  const PgraftHaCommand *command,
												  const char **why);
/* The primary was known to have that at that time. */
extern void pgraft_ha_note_primary_lsn(PgraftHaDocument *document, uint64 lsn, int64 time);

/* ---- document_sync.c ---- */
extern PgraftHaVerdict pgraft_ha_apply_sync_begin(PgraftHaDocument *document,
												  const PgraftHaCommand *command,
												  const char **why);
extern PgraftHaVerdict pgraft_ha_apply_sync_end(PgraftHaDocument *document,
												const PgraftHaCommand *command,
												const char **why);
/* Makes a set contain a primary that has everything. */
extern void pgraft_ha_include_primary(PgraftHaDocument *document, PgraftHaSyncSet *set,
									  uint32 id);
extern void pgraft_ha_set_add(PgraftHaSyncSet *set, uint32 id);
/* False when it was not in there. */
extern bool pgraft_ha_set_remove(PgraftHaSyncSet *set, uint32 id);
extern bool pgraft_ha_set_is_proper(const PgraftHaSyncSet *set);

/* ---- document_wal.c ---- */

/* Of document.epoch, which must be > 0. */
extern PgraftHaEpoch *pgraft_ha_current_entry(PgraftHaDocument *document);
extern void pgraft_ha_push_history(PgraftHaDocument *document, const PgraftHaEpoch *entry);
/* 0 = of none that is known. */
extern uint64 pgraft_ha_epoch_of_timeline(const PgraftHaDocument *document, uint32 timeline);
extern bool pgraft_ha_left_its_timeline(const PgraftHaDocument *document, uint64 wal_epoch,
										uint64 tag, uint32 timeline);

/* ---- document_check.c ---- */

/* NULL = no such data member */
extern const PgraftHaMember *pgraft_ha_known_member(const PgraftHaDocument *document, uint32 id);

#endif							/* PGRAFT_DOCUMENT_INTERNAL_H */
