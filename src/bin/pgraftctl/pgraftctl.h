/*-------------------------------------------------------------------------
 *
 * pgraftctl.h
 *	  What the files of pgraftctl share.
 *
 *		pgraftctl.c		the table of commands, usage
 *		options.c		options that several commands have
 *		connection.c	libpq: connect, query, print as table or JSON
 *		process.c		other programs: run, find, start and stop a server
 *		files.c			configuration and small files, written durably
 *		source.c		whom to copy: the primary, before and after
 *		backup.c		base backup and rewind of a data directory
 *		cmd_*.c			the commands
 *
 * A front end: palloc here is that of libpgcommon and ends the program when
 * memory is short.  Commands return an exit code.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFTCTL_H
#define PGRAFTCTL_H

#include "postgres_fe.h"

#include <signal.h>

#include "common/logging.h"
#include "libpq-fe.h"

/* exit codes, documented in --help */
#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2
#define CTL_UNKNOWN 3			/* the outcome of the request is not known */

extern const char *ctl_argv0;

typedef struct CtlOptions
{
	const char *conninfo;		/* -d */
	const char *host;
	const char *port;
	const char *user;
	const char *data_directory; /* -D */
	bool		json;
	bool		yes;
	double		watch_seconds;	/* 0 = once */
	/* a member to be */
	int			node_id;
	const char *name;
	const char *address;		/* of consensus */
	int			consensus_port;
	const char *postgres_address;
	int			postgres_port;
	const char *socket_directory;	/* NULL = PostgreSQL's default */
	const char *cluster_id;
	const char *certificates;	/* directory of pgraftctl tls */
	const char *from;			/* conninfo of a running member */
	const char *role;
	bool		no_start;
	bool		allow_data_loss;
	const char *at;				/* of a switchover; NULL = now */
	bool		cancel;
	int			timeout_seconds;
	bool		help;
} CtlOptions;

/*
 * Parses the options named by `allowed` (a string of short option letters, see
 * options.c).  Returns the index of the first argument that is no option, or
 * -1 after a message.
 */
extern int	ctl_parse(int argc, char **argv, const char *allowed, CtlOptions *options);
extern void ctl_try_help(const char *command);
/* Asks on the terminal unless --yes was given; false without a terminal. */
extern bool ctl_confirm(const CtlOptions *options, const char *question);

/* ---- connection.c ---- */
/* NULL after a message. */
extern PGconn *ctl_connect(const CtlOptions *options);
extern PGconn *ctl_connect_string(const char *conninfo);
/* Open or not, without a message; never NULL. */
extern PGconn *ctl_try_connect(const char *conninfo);
/* A result with rows, or NULL after a message (*code set by SQLSTATE). */
extern PGresult *ctl_query(PGconn *connection, const char *sql, int n_params,
						   const char *const *params, int *code);
/* The first column of the first row, palloc'd; NULL after a message or if null. */
extern char *ctl_query_text(PGconn *connection, const char *sql, int n_params,
							const char *const *params, int *code);
/*
 * Repeats a query until its only value is true.  False after a message when it
 * fails or `seconds` have passed.
 */
extern bool ctl_wait_until(PGconn *connection, const char *sql, int seconds,
						   const char *waiting_for);
/* Prints the rows as an aligned table, or with json as one JSON array. */
extern int	ctl_print_query(PGconn *connection, const char *sql, const char *title, bool json);
/* Runs a statement whose only column is printed on success. */
extern int	ctl_run_function(PGconn *connection, const char *sql, int n_params,
							 const char *const *params, const char *done);

/* ---- process.c ---- */
/* The program that ctl_run() waits for, 0 = none: for a handler of signals. */
extern volatile sig_atomic_t ctl_running_program;
/* Set by such a handler: what repeats itself gives up. */
extern volatile sig_atomic_t ctl_end_requested;
extern char *ctl_find_program(const char *name);
/* argv ends with NULL; the output goes to ours.  Exit code, or -1. */
extern int	ctl_run(char *const *argv);
/* The same with the output kept; printed only if it fails. */
extern int	ctl_run_quietly(char *const *argv);
/* What its lock file says; 0 = none. */
extern pid_t ctl_server_pid(const char *data_directory);
extern bool ctl_server_is_running(const char *data_directory);
extern int	ctl_start_server(const char *data_directory, const char *extra_options,
							 int timeout_seconds);
extern int	ctl_stop_server(const char *data_directory);

/* ---- files.c ---- */
extern bool ctl_read_file(const char *path, char **contents);
extern bool ctl_write_file(const char *path, const char *contents, int mode);
extern bool ctl_append_once(const char *path, const char *line);
extern bool ctl_directory_is_empty(const char *path);	/* or missing */
extern char *ctl_random_password(void);
extern char *ctl_absolute_path(const char *path);
extern char *ctl_quote_setting(const char *value);
extern char *ctl_member_conninfo(const CtlOptions *options, const char *name);
extern bool ctl_write_configuration(const CtlOptions *options, const char *name);
extern char *ctl_read_setting(const char *data_directory, const char *name);
extern char *ctl_passfile(const char *data_directory);
extern bool ctl_write_passfile(const char *data_directory, const char *user,
							   const char *password);
extern char *ctl_member_name(const CtlOptions *options);

/* ---- source.c ---- */
/* A server that was the primary when it was asked; strings are palloc'd. */
typedef struct CtlSource
{
	PGconn	   *connection;		/* NULL once it is not needed any more */
	char	   *from;			/* the connection string that it was found by */
	char	   *login;			/* that without the address */
	char	   *address;		/* "host=... port=..." */
	char	   *epoch;			/* of which it is the primary */
	char	   *conninfo;		/* to copy it, filled in by the caller */
	uint64		confirmed;		/* newest epoch whose WAL the member to be filled has
								 * confirmed; 0 = not known */
	bool		deposed;		/* it was the primary no longer after the copy */
} CtlSource;

/*
 * Asks the hosts of the connection string `from` in turn, then the members that
 * those name, for up to `seconds` while one of them answers.  `credentials` hold
 * where `from` says nothing else; "" = none.  Then, with `confirmed`, a primary of
 * that or a newer epoch that has no lease.  False after a message.
 */
extern bool ctl_find_primary(const char *from, const char *credentials, int seconds,
							 uint64 confirmed, CtlSource *source);
/*
 * Whether it is, after a copy, the primary of the same epoch still or again; or
 * fenced, of an epoch not older than `confirmed`, while nobody else is the primary.
 */
extern bool ctl_is_still_primary(const CtlSource *source);
extern void ctl_forget_source(CtlSource *source);

/* ---- backup.c ---- */
/* Fills an empty data directory from a server; shows progress. */
extern bool ctl_base_backup(const char *data_directory, const char *conninfo);
/*
 * Makes a stopped data directory a standby of `source` again.  After an
 * interruption ctl_recover_configuration() brings the own configuration back;
 * false after a message.  False with source->deposed: what was copied is not the
 * primary's, and must be cloned from another source.
 */
extern bool ctl_recover_configuration(const char *data_directory);
extern bool ctl_rewind_or_clone(const char *data_directory, CtlSource *source,
								bool clone_only);
/* Whose WAL a data directory has, when that is no longer true of it. */
extern bool ctl_forget_wal(const char *data_directory);
/* The newest epoch whose WAL the server confirmed; 0 when it has not noted any. */
extern uint64 ctl_confirmed_epoch(const char *data_directory);
/* pgraft.data_dir, or where it is without that setting. */
extern char *ctl_consensus_directory(const char *data_directory);

/* ---- cmd_rejoin.c ---- */
/* A message and false when another process of pgraftctl has it. */
extern bool ctl_lock_supervisor(const char *data_directory);
/*
 * The primary, with its connection string; looks for `seconds`, false after a
 * message.  `stopped`: our server is, which the primary's lease may lack.
 */
extern bool ctl_find_source(const CtlOptions *options, int seconds, bool stopped,
							CtlSource *source);
/* Of a stopped server; exit code.  The source is forgotten. */
extern int	ctl_mend(const CtlOptions *options, CtlSource *source);
extern bool ctl_mending_was_interrupted(const char *data_directory);

/* ---- commands ---- */
extern int	cmd_init(int argc, char **argv);
extern int	cmd_join(int argc, char **argv);
extern int	cmd_tls(int argc, char **argv);
extern int	cmd_status(int argc, char **argv);
extern int	cmd_members(int argc, char **argv);
extern int	cmd_history(int argc, char **argv);
extern int	cmd_add(int argc, char **argv);
extern int	cmd_remove(int argc, char **argv);
extern int	cmd_switchover(int argc, char **argv);
extern int	cmd_failover(int argc, char **argv);
extern int	cmd_pause(int argc, char **argv);
extern int	cmd_resume(int argc, char **argv);
extern int	cmd_kv(int argc, char **argv);
extern int	cmd_log(int argc, char **argv);
extern int	cmd_rejoin(int argc, char **argv);
extern int	cmd_run(int argc, char **argv);

#endif							/* PGRAFTCTL_H */
