/*-------------------------------------------------------------------------
 *
 * sim.h
 *	  The room all parts of the deterministic simulator share.
 *
 * One process, one thread, one virtual clock, one event queue, one random
 * generator: a run is a pure function of its seed.  Three to seven members
 * each run the real engine (libpgraft_raft.a) and the real storage code
 * (libpgraft_front.a) on a simulated disk, network and clock.
 *
 *		sim_main.c		command line, the list of seeds, the summary
 *		sim_run.c		one run: settings drawn from the seed, event loop, end
 *		sim_core.c		random numbers, event queue, trace, statistics
 *		sim_disk.c		a disk that loses, tears, fills up, fails and dies
 *		sim_disk_io.c	what the storage code calls of it
 *		sim_net.c		links: delay, loss, duplication, order, partitions
 *		sim_node.c		the host of one member: life, restart, adoption
 *		sim_flush.c		the host's asynchronous writes and snapshots
 *		sim_storage.c	storage alone: more crashes, and flipped bits
 *		sim_machine.c	the replicated state machine: registers and sessions
 *		sim_client.c	clients: writes with retry, linearizable reads
 *		sim_history.c	what the clients saw, judged by outsiders' rules
 *		sim_fault.c		what goes wrong, and the operator who changes members
 *		sim_check.c		the invariants; knows nothing of the engine's inside
 *		sim_check_state.c	the same for recovered and applied state and clients
 *		sim_log.c		the checker's own copies of each member's log
 *
 * The checker believes no one: it keeps its own copy of every log from what
 * the engine asked to be written, and judges messages, commits, applied
 * entries, acknowledgements and recovered state against those copies.
 *
 * Virtual time is in microseconds; members see milliseconds of a clock of
 * their own that drifts.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SIM_H
#define PGRAFT_SIM_H

#include <setjmp.h>
#include <stddef.h>

#include "pgraft/raft.h"
#include "pgraft/storage.h"
#include "pgraft/wire.h"

#define SIM_MAX_NODES 7
#define SIM_MAX_CLIENTS 5
#define SIM_KEYS 8
#define SIM_MAX_JOBS 64			/* epochs in flight per member */
#define SIM_MAX_INBOX 256		/* messages kept for a paused member */
#define SIM_MAX_READS 64		/* reads waiting at one member */
#define SIM_TRACE_LINES 240
#define SIM_TRACE_WIDTH 256

#define SIM_MS 1000UL			/* microseconds */
#define SIM_DIRECTORY "/disk/state"	/* each member has a disk of its own */

typedef raft_u64 SimTime;
typedef struct SimWorld SimWorld;
typedef struct SimNode SimNode;
typedef struct SimDisk SimDisk;
typedef struct SimChecker SimChecker;

/* ----------------------------------------------------------------
 * Statistics: everything that must have happened somewhere over many seeds
 * ----------------------------------------------------------------
 */
#define SIM_STATISTICS(X) \
	X(events) X(elections) X(two_leaders) X(prevotes) X(commits) X(applied) \
	X(truncations) X(config_changes) X(joint_entered) X(joint_left) X(added_again) \
	X(promotions) X(removals) X(adoptions) X(readoptions) X(wipes) X(transfers) X(step_downs) \
	X(snapshots_taken) X(snapshots_installed) X(snapshots_kept_log) \
	X(snapshot_chunks) X(snapshot_reads) X(log_reads) X(compactions) \
	X(crashes) X(crashes_in_io) X(power_losses) X(blackouts) X(restarts) \
	X(torn_writes) X(torn_tails_recovered) X(lost_metadata) X(disk_full) \
	X(fsync_failures) X(slow_disks) X(epochs_in_flight) X(group_flushes) \
	X(pauses) X(drifts) X(partitions) X(isolated) X(isolated_leaders) X(two_sides) X(asymmetric) X(bridges) \
	X(messages) X(lost) X(duplicated) X(reordered) X(blocked) X(ignored) \
	X(peer_lost) X(peer_found) \
	X(writes) X(writes_acknowledged) X(writes_lost) X(outcomes_unknown) \
	X(retries) X(duplicates_suppressed) X(busy) X(held) X(too_large) \
	X(reads) X(reads_at_deposed) X(reads_answered) X(reads_failed) X(lease_seeds) \
	X(stall_transfers) X(histories) X(history_operations) \
	X(recoveries) X(bits_flipped) X(flips_refused)

typedef enum SimStatistic
{
#define X(name) SIM_STAT_##name,
	SIM_STATISTICS(X)
#undef X
	SIM_N_STATISTICS
} SimStatistic;

#define SIM_COUNT(world, name) ((world)->statistics[SIM_STAT_##name]++)
#define SIM_ADD(world, name, n) ((world)->statistics[SIM_STAT_##name] += (n))

extern const char *const sim_statistic_names[SIM_N_STATISTICS];

/* ----------------------------------------------------------------
 * The event queue
 * ----------------------------------------------------------------
 */
typedef enum SimEventType
{
	SIM_EV_DELIVER,
	SIM_EV_TIMER,
	SIM_EV_FLUSH,				/* execute waiting jobs */
	SIM_EV_FLUSHED,				/* their completion reaches the loop */
	SIM_EV_APPLY,
	SIM_EV_SNAPSHOT,			/* the flush thread finishes a local snapshot */
	SIM_EV_HINT,				/* connection state of `other` reaches `node` */
	SIM_EV_RESTART,
	SIM_EV_RESUME,
	SIM_EV_CLIENT,
	SIM_EV_FAULT,
	SIM_EV_HEAL,
	SIM_EV_OPERATOR
} SimEventType;

/* One message in flight, copied out of the engine; freed with free(). */
typedef struct SimMessage
{
	struct raft_message m;
	raft_u64	number;			/* per link, to notice reordering */
	int			invite;			/* sender's configuration has the receiver as a
								 * learner: a blank receiver may join */
} SimMessage;

typedef struct SimEvent
{
	SimTime		at;
	raft_u64	order;			/* ties are broken by order of creation */
	SimEventType type;
	int			node;			/* slot, or client number */
	int			other;
	raft_u64	life;			/* of the node; stale events are dropped */
	SimMessage *message;		/* DELIVER owns it */
} SimEvent;

/* ----------------------------------------------------------------
 * The replicated state machine
 * ----------------------------------------------------------------
 */
typedef struct SimRegister
{
	raft_u64	value;			/* unique per write; 0 = never written */
	raft_index	index;			/* entry that wrote it */
	raft_u64	writes;
} SimRegister;

typedef struct SimSession
{
	raft_u64	sequence;		/* last one applied */
	raft_index	index;			/* entry that applied it */
} SimSession;

typedef struct SimMachine
{
	raft_index	applied;
	raft_u64	chain;			/* hash over everything applied */
	SimRegister registers[SIM_KEYS];
	SimSession	sessions[SIM_MAX_CLIENTS];
} SimMachine;

typedef struct SimCommand
{
	unsigned int client;
	unsigned int key;
	raft_u64	sequence;
	raft_u64	value;
} SimCommand;

extern void sim_machine_reset(SimMachine *machine);
extern int	sim_machine_apply(SimMachine *machine, const struct raft_entry *entry);
extern size_t sim_machine_snapshot_size(const SimMachine *machine, size_t ballast);
extern void sim_machine_save(const SimMachine *machine, size_t ballast,
							 unsigned char *buffer);
extern int	sim_machine_load(SimMachine *machine, const unsigned char *buffer,
							 size_t length);
extern size_t sim_command_encode(const SimCommand *command, size_t padding,
								 unsigned char *buffer);
extern int	sim_command_decode(const struct raft_entry *entry, SimCommand *command);
#define SIM_COMMAND_BYTES 24

/* ----------------------------------------------------------------
 * One member and its host
 * ----------------------------------------------------------------
 */
typedef struct SimJob
{
	PgraftJob  *job;
	raft_u64	epoch;
	int			must_sync;
	int			installs;		/* boolean: makes a received snapshot the current */
	raft_index	install_index;
	SimMessage **after;			/* sent once the job is durable */
	size_t		n_after;
} SimJob;

typedef struct SimApply			/* an entry, or a snapshot to load */
{
	struct SimApply *next;
	int			install;
	raft_u64	install_epoch;
	struct raft_entry entry;	/* payload follows the struct */
} SimApply;

typedef struct SimPendingRead
{
	raft_u64	token;
	raft_index	index;
} SimPendingRead;

typedef struct SimLink
{
	int			blocked;
	raft_u64	next_number;
	raft_u64	last_delivered;
	SimTime		last_arrival;	/* for links that keep the order */
} SimLink;

struct SimNode
{
	int			slot;
	raft_id		id;
	raft_u64	life;			/* +1 at each start and stop */
	int			up;				/* boolean: the process runs */
	int			paused;			/* boolean: SIGSTOP */
	int			wanted;			/* boolean: restarted when down */
	int			has_state;		/* boolean: its directory was made, durably */
	raft_u64	incarnation;

	SimDisk    *disk;
	PgraftIo	io;
	PgraftStorage *storage;
	struct raft *raft;
	raft_u64	allocations;	/* live ones of the engine */

	long		drift_ppm;		/* clock = offset + now * (1 + drift) */
	SimTime		clock_offset;
	SimTime		timer_at;		/* pending TIMER event; 0 = none */

	SimJob		jobs[SIM_MAX_JOBS]; /* prepared, oldest first */
	int			n_jobs;
	int			n_executing;	/* first of them, executed, not yet completed */
	int			flush_scheduled;
	raft_u64	durable_epoch;

	SimMachine	machine;
	SimApply   *apply_head;
	SimApply   *apply_tail;
	int			apply_scheduled;
	SimPendingRead reads[SIM_MAX_READS];
	int			n_reads;

	PgraftSnapshotWriter *writer;
	struct raft_snapshot_meta writer_meta;
	int			install_pending;	/* installs not yet loaded */
	raft_index	skip_until;		/* a newer snapshot than expected was loaded: its
								 * entries are applied already */

	SimMessage *inbox[SIM_MAX_INBOX];
	int			n_inbox;
};

/* ----------------------------------------------------------------
 * Clients
 * ----------------------------------------------------------------
 */
typedef enum SimOpState
{
	SIM_OP_IDLE,
	SIM_OP_WRITING,
	SIM_OP_READING
} SimOpState;

typedef struct SimClient
{
	SimOpState	state;
	int			node;			/* slot asked */
	raft_u64	life;			/* of that node */
	int			believed_leader;	/* slot */
	SimCommand	command;
	int			command_open;	/* boolean: not yet acknowledged, to be retried */
	raft_index	index;			/* where the proposal was appended */
	raft_term	term;
	raft_u64	token;
	unsigned int read_key;
	SimTime		write_start;	/* of its first attempt */
	SimTime		read_start;
	raft_index	floor;			/* linearizability: everything up to here had been
								 * acknowledged or seen when the operation began */
	SimTime		deadline;
	unsigned int attempts;		/* given up since the last success: patience grows */
	raft_u64	completed;		/* operations */
	raft_u64	completed_at_heal;
} SimClient;

/* ----------------------------------------------------------------
 * Settings of a run, drawn from the seed
 * ----------------------------------------------------------------
 */
typedef struct SimSettings
{
	int			n_slots;
	int			initial_voters; /* 1: grows by ADD; else made with that many */
	int			n_clients;
	struct raft_params params;	/* id, incarnation and seed differ per member */
	PgraftStorageOptions storage;
	long		max_drift_ppm;
	SimTime		delay_min;		/* network, one way */
	SimTime		delay_max;
	unsigned int loss;			/* per thousand */
	unsigned int duplicate;
	unsigned int straggler;		/* per thousand: delayed by up to several T */
	int			fifo_links;		/* boolean: links keep the order, as TCP does */
	SimTime		flush_max;		/* disk latency */
	unsigned int slow_apply;	/* per thousand */
	raft_index	snapshot_every;
	raft_index	retain;
	size_t		ballast;		/* extra bytes in a snapshot */
	size_t		padding;		/* largest extra bytes in a command */
	SimTime		fault_interval;
	SimTime		operator_interval;	/* 0 = membership stays */
	SimTime		think;			/* clients */
	unsigned int fault_weights[16];
} SimSettings;

typedef struct SimOptions
{
	raft_u64	steps;			/* events before the faults stop */
	int			trace;			/* boolean: print every line */
	int			quiet_failure;	/* boolean: no trace dump (mutant runs) */
	int			silent;			/* boolean: not a word (shrinking) */
	unsigned int disabled;		/* bit i: fault i of sim_fault.c never happens; see
								 * there for what follows the faults */
	const char *history;		/* file to write the clients' history to, or NULL */
} SimOptions;

struct SimWorld
{
	const SimOptions *options;
	raft_u64	seed;
	raft_u64	random_state;
	SimSettings settings;
	SimTime		now;
	SimTime		election_us;	/* T */

	SimEvent   *heap;
	size_t		n_heap;
	size_t		heap_capacity;
	raft_u64	next_order;

	SimNode		nodes[SIM_MAX_NODES];
	SimLink		links[SIM_MAX_NODES][SIM_MAX_NODES];
	SimClient	clients[SIM_MAX_CLIENTS];
	raft_u64	next_value;
	raft_u64	next_token;
	raft_u64	next_uid;
	raft_u64	cluster_uid;
	raft_id		removed;		/* last one removed, likely to be added again */
	int			healing;		/* boolean: no new fault, no new change */
	raft_u64	partition;		/* number of the current one */
	int			quiet;			/* boolean: clients begin nothing new */
	SimTime		slow_until[SIM_MAX_NODES];
	SimTime		full_until[SIM_MAX_NODES];

	SimChecker *checker;
	struct History *history;
	unsigned int ever_members;	/* bit per id: was in a configuration */
	PgraftWireScratch wire;		/* decoded messages point in here */
	unsigned char *frame;
	size_t		frame_capacity;

	char		trace[SIM_TRACE_LINES][SIM_TRACE_WIDTH];
	raft_u64	trace_lines;
	raft_u64	trace_hash;
	int			failed;
	char		violation[512];
	jmp_buf		abandon;		/* out of a failed assertion of the engine */

	raft_u64	statistics[SIM_N_STATISTICS];
};

/* sim_core.c */
extern raft_u64 sim_random(SimWorld *world);
extern raft_u64 sim_below(SimWorld *world, raft_u64 n);
extern raft_u64 sim_range(SimWorld *world, raft_u64 low, raft_u64 high);
extern int	sim_chance(SimWorld *world, unsigned int per_thousand);
extern raft_u64 sim_hash(raft_u64 hash, const void *data, size_t length);
extern void sim_trace(SimWorld *world, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void sim_violation(SimWorld *world, const char *invariant,
						  const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void sim_dump_trace(const SimWorld *world);
extern void *sim_alloc(size_t size);
extern void sim_push(SimWorld *world, SimTime delay, SimEventType type, int node,
					 int other, raft_u64 life, SimMessage *message);
extern int	sim_pop(SimWorld *world, SimEvent *event);

/* sim_run.c */
extern int	sim_run(raft_u64 seed, const SimOptions *options, raft_u64 *totals,
					raft_u64 *trace_hash);

/* sim_disk.c */
extern SimDisk *sim_disk_create(SimWorld *world, int slot);
extern void sim_disk_destroy(SimDisk *disk);
extern void sim_disk_io(SimDisk *disk, PgraftIo *io);
extern SimDisk *sim_disk_clone(const SimDisk *from);
extern void sim_disk_flip(SimDisk *disk, char *text, size_t text_size);
extern void sim_disk_arm(SimDisk *disk, unsigned int calls, int power_loss);
extern int	sim_disk_dead(const SimDisk *disk, int *power_loss);
extern void sim_disk_kill(SimDisk *disk, int power_loss);
extern void sim_disk_restart(SimDisk *disk);
extern void sim_disk_wipe(SimDisk *disk);
extern void sim_disk_fail_fsync(SimDisk *disk, int yes);
extern int	sim_disk_failing(const SimDisk *disk);
extern void sim_disk_set_full(SimDisk *disk, int full);

/* sim_net.c */
extern SimMessage *sim_message_copy(const struct raft_message *m);
extern void sim_net_send(SimWorld *world, SimNode *from, SimMessage *message);
extern const struct raft_message *sim_net_wire(SimWorld *world,
												const struct raft_message *m,
												struct raft_message *decoded);
extern void sim_net_arrive(SimWorld *world, SimEvent *event);
extern void sim_net_partition(SimWorld *world);
extern void sim_net_heal(SimWorld *world);
extern void sim_net_hints(SimWorld *world, int slot);
extern void sim_net_hint(SimWorld *world, const SimEvent *event);

/* sim_node.c */
extern void sim_node_init(SimWorld *world, int slot);
extern void sim_node_start(SimWorld *world, SimNode *node);
extern void sim_node_stop(SimWorld *world, SimNode *node, int power_loss);
extern int	sim_node_check_disk(SimWorld *world, SimNode *node);
extern void sim_node_create(SimWorld *world, SimNode *node, raft_u64 incarnation,
							const struct raft_hard_state *hard_state,
							const struct raft_entry *entries, size_t n_entries);
extern void sim_node_wipe(SimWorld *world, SimNode *node);
extern void sim_node_deliver(SimWorld *world, SimNode *node, SimMessage *message);
extern void sim_node_timer(SimWorld *world, SimNode *node);
extern void sim_node_pause(SimWorld *world, SimNode *node);
extern void sim_node_resume(SimWorld *world, SimNode *node);
extern raft_time sim_node_clock(const SimWorld *world, const SimNode *node);
extern void sim_node_tick(SimWorld *world, SimNode *node);
extern void sim_node_pump(SimWorld *world, SimNode *node);
extern int	sim_node_running(const SimNode *node);
extern SimNode *sim_leader(SimWorld *world);

/* sim_flush.c */
extern void sim_flush_update(SimWorld *world, SimNode *node,
							 const struct raft_update *update);
extern void sim_flush_execute(SimWorld *world, SimNode *node);
extern void sim_flush_complete(SimWorld *world, SimNode *node);
extern void sim_flush_schedule(SimWorld *world, SimNode *node, SimTime delay);
extern void sim_flush_forget(SimNode *node);
extern void sim_apply_queue(SimWorld *world, SimNode *node,
							const struct raft_update *update);
extern void sim_apply_run(SimWorld *world, SimNode *node);
extern void sim_apply_event(SimWorld *world, SimNode *node);
extern int	sim_load_machine(SimWorld *world, SimNode *node);
extern void sim_snapshot_maybe(SimWorld *world, SimNode *node);
extern void sim_snapshot_finish(SimWorld *world, SimNode *node);

/* sim_storage.c */
extern int	sim_storage_run(raft_u64 seed, const SimOptions *options,
							raft_u64 *totals, raft_u64 *trace_hash);

/* sim_client.c */
extern void sim_client_event(SimWorld *world, int number);
extern void sim_client_applied(SimWorld *world, SimNode *node,
							   const struct raft_entry *entry);
extern void sim_client_installed(SimWorld *world, SimNode *node);
extern void sim_client_read_result(SimWorld *world, SimNode *node,
								   raft_u64 token, int error);

/* sim_history.c */
extern void sim_history_wrote(SimWorld *world, const SimClient *client, const SimNode *node);
extern void sim_history_read(SimWorld *world, const SimClient *client, const SimNode *node);
extern void sim_history_judge(SimWorld *world);

/* sim_fault.c */
extern int	sim_fault_switches(void);
extern const char *sim_fault_switch_name(int number);
extern void sim_fault_settings(SimWorld *world);
extern void sim_fault_event(SimWorld *world);
extern void sim_fault_stop_all(SimWorld *world);
extern void sim_operator_event(SimWorld *world);

/* sim_check.c */
extern SimChecker *sim_check_create(SimWorld *world);
extern void sim_check_destroy(SimChecker *checker);
extern void sim_check_created(SimWorld *world, SimNode *node,
							  const struct raft_hard_state *hard_state,
							  const struct raft_entry *entries, size_t n_entries);
extern void sim_check_wiped(SimWorld *world, SimNode *node);
extern void sim_check_write(SimWorld *world, SimNode *node,
							const struct raft_update *update);
extern void sim_check_update(SimWorld *world, SimNode *node,
							 const struct raft_update *update);
extern void sim_check_durable(SimWorld *world, SimNode *node);
extern void sim_check_recover_begin(SimWorld *world, SimNode *node);
extern void sim_check_recover_snapshot(SimWorld *world, SimNode *node,
									   const struct raft_snapshot_meta *meta);
extern void sim_check_recover_start(SimWorld *world, SimNode *node,
									raft_index index, raft_term term);
extern void sim_check_recover_state(SimWorld *world, SimNode *node,
									const struct raft_hard_state *state);
extern void sim_check_recover_entry(SimWorld *world, SimNode *node,
									const struct raft_entry *entry);
extern void sim_check_recover_truncate(SimWorld *world, SimNode *node,
									   raft_index from);
extern void sim_check_recover_end(SimWorld *world, SimNode *node);
extern void sim_check_send(SimWorld *world, SimNode *node,
						   const struct raft_message *m);
extern void sim_check_node(SimWorld *world, SimNode *node);
extern void sim_check_applied(SimWorld *world, SimNode *node,
							  const struct raft_entry *entry);
extern void sim_check_loaded(SimWorld *world, SimNode *node);
extern raft_index sim_check_floor(SimWorld *world);
extern void sim_check_acknowledged(SimWorld *world, SimNode *node,
								   const SimCommand *command, raft_index floor);
extern void sim_check_read(SimWorld *world, SimNode *node, unsigned int key,
						   raft_index floor);
extern const char *sim_check_converged(SimWorld *world);
extern const struct raft_config *sim_check_config(SimWorld *world);
extern raft_index sim_check_committed(const SimWorld *world);

#endif							/* PGRAFT_SIM_H */
