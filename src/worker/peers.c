/*-------------------------------------------------------------------------
 *
 * peers.c
 *	  Between the network layer and the member: who is dialed, who is let in,
 *	  where frames go.
 *
 * The callbacks run inside pgraft_net_poll().  They may not raise errors: a
 * peer's misbehaviour must not end the worker.  They feed the engine and the
 * service tables; nothing is sent from here but answers.
 *
 * Who is let in: a sender of this cluster (its random number, not its name)
 * that addresses this very membership (id and incarnation).  A member that is
 * not in our configuration is let in, too: our configuration may be old, and
 * the engine decides what its messages are worth.  Its address is kept so that
 * it can be answered ("stranger").  So is where a member says that it is: while
 * we replay the log our configuration may name a place that it left long ago, or
 * a membership that has ended, and without answers nothing more would come.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/timestamp.h"

#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define NET_RETRY_MS 1000		/* opening the listener again */
#define MAX_FRAME_SLACK (64 * 1024)

static void fill_self(const PgraftNode *node, PgraftNetSelf *self);
static void fill_options(const PgraftNode *node, PgraftNetOptions *options);
static PgraftHelloStatus on_hello(void *context, const PgraftFrameHeader *header,
								  const PgraftHello *hello, const char *remote,
								  char *text, size_t text_size);
static PgraftHelloStatus accept_invitation(PgraftNode *node, const PgraftFrameHeader *header,
										   const PgraftHello *hello,
										   char *text, size_t text_size);
static void remember_sender(PgraftNode *node, const PgraftFrameHeader *header,
							const PgraftHello *hello);
static PgraftNetPeer *find_place(PgraftNetPeer *peers, int *n, raft_id id);
static void use_greeting(PgraftNode *node, PgraftNetPeer *peer);
static bool is_member(const PgraftNode *node, raft_id id);
static int	on_expected_name(void *context, raft_id id, char *name);
static int	on_frame(void *context, const PgraftFrameHeader *header,
					 const unsigned char *payload);
static void on_peer_up(void *context, raft_id peer);
static void on_peer_down(void *context, raft_id peer, int refused);
static void on_peer_refused(void *context, raft_id peer, PgraftHelloStatus status);
static void on_log(void *context, PgraftNetLogLevel level, const char *message);

/* ----------------------------------------------------------------
 * Opening and the list of peers
 * ----------------------------------------------------------------
 */

static void
fill_self(const PgraftNode *node, PgraftNetSelf *self)
{
	memset(self, 0, sizeof(*self));
	self->node_id = (raft_id) pgraft_node_id;
	self->incarnation = node->storage != NULL ? node->identity.incarnation : 0;
	self->cluster_uid = node->storage != NULL ? node->identity.cluster_uid : 0;
	self->member_uid = node->storage != NULL ? node->identity.member_uid : 0;
	strlcpy(self->cluster_id, pgraft_cluster_id, sizeof(self->cluster_id));
	pgraft_own_name(self->name);
	strlcpy(self->address, pgraft_address, sizeof(self->address));
	self->port = (unsigned) pgraft_port;
}

static void
fill_options(const PgraftNode *node, PgraftNetOptions *options)
{
	memset(options, 0, sizeof(*options));
	fill_self(node, &options->self);
	strlcpy(options->listen_address, pgraft_listen_address, sizeof(options->listen_address));
	options->listen_port = (unsigned) pgraft_port;
	strlcpy(options->ssl_cert_file, pgraft_ssl_cert_file, sizeof(options->ssl_cert_file));
	strlcpy(options->ssl_key_file, pgraft_ssl_key_file, sizeof(options->ssl_key_file));
	strlcpy(options->ssl_ca_file, pgraft_ssl_ca_file, sizeof(options->ssl_ca_file));
	strlcpy(options->ssl_crl_file, pgraft_ssl_crl_file, sizeof(options->ssl_crl_file));

	/* one entry must fit into a message whatever its size */
	options->max_frame_bytes = (size_t) pgraft_max_entry_size * 1024 +
		4 * 1024 * 1024 + MAX_FRAME_SLACK;
	options->max_queue_bytes = 4 * options->max_frame_bytes;
	options->max_pending = 32;
	options->handshake_timeout_ms = 5000;
	options->reconnect_max_ms = 1000;
	options->ping_interval_ms = 1000;
	options->tcp_user_timeout_ms = (unsigned) pgraft_election_timeout * 4;
	options->seed = pgraft_random_u64();
}

/* Tries again every second when the port is taken or a certificate is wrong. */
void
pgraft_peers_open(PgraftNode *node)
{
	PgraftNetOptions *options;
	PgraftNetCallbacks callbacks;
	PgraftError error;

	if (node->net != NULL || pgraft_node_id == 0 ||
		node->state == PGRAFT_WORKER_FAILED || node->now < node->net_retry_at)
		return;

	options = palloc(sizeof(PgraftNetOptions));
	fill_options(node, options);
	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.context = node;
	callbacks.hello = on_hello;
	callbacks.expected_name = on_expected_name;
	callbacks.frame = on_frame;
	callbacks.peer_up = on_peer_up;
	callbacks.peer_down = on_peer_down;
	callbacks.peer_refused = on_peer_refused;
	callbacks.log = on_log;
	memset(&error, 0, sizeof(error));
	if (pgraft_net_create(&node->net, options, &callbacks, node->now, &error) != PGRAFT_OK)
	{
		node->net = NULL;
		if (error.hint[0] == '\0')
			pgraft_error_hint(&error, "Correct the setting or the file; the member tries again every second.");
		if (strcmp(node->failure, error.message) != 0)
			pgraft_report(LOG, &error);
		snprintf(node->failure, sizeof(node->failure), "%s", error.message);
		node->net_retry_at = node->now + NET_RETRY_MS;
	}
	else
	{
		ereport(LOG,
				(errmsg("pgraft member %d listens on port %d%s", pgraft_node_id, pgraft_port,
						pgraft_ssl_cert_file[0] != '\0' ? " with TLS" : " for loopback addresses only")));
		if (node->state != PGRAFT_WORKER_FAILED)
			node->failure[0] = '\0';
		node->peers_changed = true;
	}
	pfree(options);
}

/* After a SIGHUP. */
void
pgraft_peers_reload(PgraftNode *node)
{
	PgraftNetOptions *options;
	PgraftError error;

	if (node->net == NULL)
	{
		node->net_retry_at = 0;
		return;
	}
	options = palloc(sizeof(PgraftNetOptions));
	fill_options(node, options);
	memset(&error, 0, sizeof(error));
	if (pgraft_net_reload_tls(node->net, options, &error) != PGRAFT_OK)
		pgraft_report(LOG, &error);
	pfree(options);
}

/* The member got its identity. */
void
pgraft_peers_self_changed(PgraftNode *node)
{
	PgraftNetSelf self;

	if (node->net == NULL)
		return;
	fill_self(node, &self);
	pgraft_net_set_self(node->net, &self);
	node->peers_changed = true;
}

/* Hands the network everybody of the configuration, and the strangers. */
void
pgraft_peers_refresh(PgraftNode *node)
{
	PgraftNetPeer *peers;
	PgraftError error;
	const struct raft_config *config;
	struct raft_status status;
	bool		leads = pgraft_is_leader_here(node);
	static bool was_committed = false;
	int			n = 0;
	int			i;

	if (node->net == NULL || node->raft == NULL)
		return;
	if (raft_config_committed(node->raft) != was_committed)
	{
		was_committed = !was_committed;
		node->peers_changed = true;
	}
	if (!node->peers_changed)
		return;
	node->peers_changed = false;
	raft_status(node->raft, &status);
	config = raft_get_config(node->raft);
	peers = palloc0(sizeof(PgraftNetPeer) * (RAFT_MAX_MEMBERS * 2));
	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];
		PgraftNetPeer *peer;

		if (member->id == node->identity.node_id)
			continue;

		/*
		 * A newcomer whose entry may still be lost is not spoken to: it would
		 * begin under an incarnation that the cluster need not come to have.
		 */
		if (leads && member->role == RAFT_LEARNER && member->old_role == RAFT_ROLE_NONE &&
			member->incarnation > status.commit_index)
			continue;
		peer = &peers[n++];
		peer->id = member->id;
		peer->incarnation = member->incarnation;
		(void) on_expected_name(node, member->id, peer->name);
		strlcpy(peer->address, member->address, sizeof(peer->address));
		peer->port = member->port;
		use_greeting(node, peer);

		/*
		 * Only the leader knows that it has not become a voter since.  A member
		 * that was away does not, and would let a voter without memory vote.
		 */
		peer->invite = leads && member->role == RAFT_LEARNER &&
			member->old_role == RAFT_ROLE_NONE;
	}
	for (i = 0; i < node->n_strangers;)
	{
		if (is_member(node, node->strangers[i].id))
		{
			*find_place(node->greeted, &node->n_greeted, node->strangers[i].id) = node->strangers[i];
			node->strangers[i] = node->strangers[--node->n_strangers];
		}
		else
			peers[n++] = node->strangers[i++];
	}

	/* who ceases to be a member is cut off, and a stranger when it greets again */
	for (i = 0; i < node->n_greeted;)
	{
		if (is_member(node, node->greeted[i].id))
			i++;
		else
			node->greeted[i] = node->greeted[--node->n_greeted];
	}
	memset(&error, 0, sizeof(error));
	if (pgraft_net_set_peers(node->net, peers, n, &error) != PGRAFT_OK)
		pgraft_report(LOG, &error);
	pfree(peers);
}

PgraftPeerContact *
pgraft_contact(PgraftNode *node, raft_id id)
{
	PgraftPeerContact *contact;
	int			i;

	for (i = 0; i < node->n_contacts; i++)
		if (node->contacts[i].id == id)
			return &node->contacts[i];

	/* when the table is full somebody is forgotten who is no member any more */
	if (node->n_contacts == (int) lengthof(node->contacts))
	{
		for (i = 0; i < node->n_contacts && is_member(node, node->contacts[i].id); i++)
			;
		if (i == node->n_contacts)
			i = 0;
		contact = &node->contacts[i];
	}
	else
		contact = &node->contacts[node->n_contacts++];
	memset(contact, 0, sizeof(*contact));
	contact->id = id;
	return contact;
}

static bool
is_member(const PgraftNode *node, raft_id id)
{
	return node->raft != NULL &&
		raft_config_find(raft_get_config(node->raft), id) != NULL;
}

/* ----------------------------------------------------------------
 * Greeting
 * ----------------------------------------------------------------
 */

static PgraftHelloStatus
on_hello(void *context, const PgraftFrameHeader *header, const PgraftHello *hello,
		 const char *remote, char *text, size_t text_size)
{
	PgraftNode *node = context;

	(void) remote;
	if (strcmp(hello->cluster_id, pgraft_cluster_id) != 0)
	{
		snprintf(text, text_size, "it belongs to cluster \"%s\", this one is \"%s\"",
				 hello->cluster_id, pgraft_cluster_id);
		return PGRAFT_HELLO_WRONG_CLUSTER;
	}
	if (header->to != (raft_id) pgraft_node_id)
	{
		snprintf(text, text_size, "it looks for member %u, this one is %d",
				 header->to, pgraft_node_id);
		return PGRAFT_HELLO_WRONG_MEMBER;
	}
	if (node->state == PGRAFT_WORKER_FAILED)
	{
		snprintf(text, text_size, "this member has stopped: %s", node->failure);
		return PGRAFT_HELLO_BUSY;
	}
	if (node->raft == NULL)
		return accept_invitation(node, header, hello, text, text_size);
	if (header->cluster_uid != node->identity.cluster_uid)
	{
		snprintf(text, text_size,
				 "it belongs to another cluster that is also named \"%s\"",
				 pgraft_cluster_id);
		return PGRAFT_HELLO_WRONG_CLUSTER;
	}
	if (header->to_incarnation > node->identity.incarnation && hello->invite)
	{
		/*
		 * Incarnations are the indexes of committed log entries: a greater one
		 * was added after our membership had ended.
		 */
		PgraftError error;

		memset(&error, 0, sizeof(error));
		pgraft_service_fail_all(node, "This member was removed from the cluster and is being added again.");
		if (!pgraft_node_retire(node, &error))
		{
			pgraft_node_fail(node, &error, "it could not join again");
			return PGRAFT_HELLO_BUSY;
		}
		return accept_invitation(node, header, hello, text, text_size);
	}
	if (header->to_incarnation != node->identity.incarnation)
	{
		snprintf(text, text_size,
				 "it looks for incarnation %lu of this member, this is %lu",
				 header->to_incarnation, node->identity.incarnation);
		return PGRAFT_HELLO_WRONG_MEMBER;
	}
	remember_sender(node, header, hello);
	return PGRAFT_HELLO_OK;
}

static PgraftHelloStatus
accept_invitation(PgraftNode *node, const PgraftFrameHeader *header,
				  const PgraftHello *hello, char *text, size_t text_size)
{
	PgraftError error;

	if (!hello->invite || header->cluster_uid == 0 || header->to_incarnation == 0)
	{
		/*
		 * A voter that lost its state must not come back as if nothing had
		 * happened: it may have voted or acknowledged entries.
		 */
		snprintf(text, text_size,
				 "this member has no state and was not invited; if it lost its state, remove it and add it again");
		return PGRAFT_HELLO_BLANK;
	}
	memset(&error, 0, sizeof(error));
	if (!pgraft_node_adopt(node, header->cluster_uid, header->to_incarnation, &error))
	{
		if (error.code != PGRAFT_ERR_NO_SPACE)
			pgraft_node_fail(node, &error, "it could not join");
		snprintf(text, text_size, "%s", error.message);
		return PGRAFT_HELLO_BUSY;
	}
	remember_sender(node, header, hello);
	return PGRAFT_HELLO_OK;
}

/* Keeps where a sender is, and of which membership, in its own words. */
static void
remember_sender(PgraftNode *node, const PgraftFrameHeader *header, const PgraftHello *hello)
{
	bool		member = is_member(node, header->from);
	PgraftNetPeer *peer;

	if (hello->bulk)
		return;
	peer = member ? find_place(node->greeted, &node->n_greeted, header->from) :
		find_place(node->strangers, &node->n_strangers, header->from);
	if (member && peer->incarnation > header->from_incarnation)
		return;
	memset(peer, 0, sizeof(*peer));
	peer->id = header->from;
	peer->incarnation = header->from_incarnation;
	peer->port = hello->port;
	strlcpy(peer->name, hello->name, sizeof(peer->name));
	strlcpy(peer->address, hello->address, sizeof(peer->address));
	node->peers_changed = true;
}

/* Its entry, or a new one, for which the oldest makes room. */
static PgraftNetPeer *
find_place(PgraftNetPeer *peers, int *n, raft_id id)
{
	PgraftNetPeer *peer;
	int			i;

	for (i = 0; i < *n; i++)
		if (peers[i].id == id)
			return &peers[i];
	if (*n == RAFT_MAX_MEMBERS)
	{
		memmove(peers, peers + 1, sizeof(PgraftNetPeer) * (RAFT_MAX_MEMBERS - 1));
		(*n)--;
	}
	peer = &peers[(*n)++];
	memset(peer, 0, sizeof(*peer));
	peer->id = id;
	return peer;
}

/* Of two memberships the later one counts, of two places of one either. */
static void
use_greeting(PgraftNode *node, PgraftNetPeer *peer)
{
	const PgraftNetPeer *greeting = NULL;
	int			i;

	for (i = 0; i < node->n_greeted; i++)
		if (node->greeted[i].id == peer->id)
			greeting = &node->greeted[i];
	for (i = 0; i < node->n_strangers; i++)
		if (node->strangers[i].id == peer->id)
			greeting = &node->strangers[i];
	if (greeting == NULL || greeting->incarnation < peer->incarnation ||
		greeting->address[0] == '\0' || greeting->port == 0)
		return;
	if (greeting->incarnation > peer->incarnation)
	{
		peer->incarnation = greeting->incarnation;
		strlcpy(peer->address, greeting->address, sizeof(peer->address));
		peer->port = greeting->port;
	}
	else if (greeting->port != peer->port || strcmp(greeting->address, peer->address) != 0)
	{
		strlcpy(peer->other_address, greeting->address, sizeof(peer->other_address));
		peer->other_port = greeting->port;
	}
}

static int
on_expected_name(void *context, raft_id id, char *name)
{
	PgraftNode *node = context;
	const struct raft_member *member;
	int			i;

	if (node->raft == NULL)
		return 0;
	member = raft_config_find(raft_get_config(node->raft), id);
	if (member != NULL)
	{
		if (member->name[0] != '\0')
			strlcpy(name, member->name, RAFT_NAME_SIZE);
		else
			snprintf(name, RAFT_NAME_SIZE, "node%u", id);
		return 1;
	}
	for (i = 0; i < node->n_strangers; i++)
	{
		if (node->strangers[i].id == id)
		{
			strlcpy(name, node->strangers[i].name, RAFT_NAME_SIZE);
			return 1;
		}
	}
	return 0;
}

/* ----------------------------------------------------------------
 * Frames and connections
 * ----------------------------------------------------------------
 */

static int
on_frame(void *context, const PgraftFrameHeader *header, const unsigned char *payload)
{
	PgraftNode *node = context;
	struct raft_message message;
	PgraftError error;

	if (node->raft == NULL)
		return 0;
	pgraft_contact(node, header->from)->last_frame = node->now;
	switch (header->type)
	{
		case PGRAFT_FRAME_RAFT:
			if (pgraft_held_full(&node->held, header->from))
			{
				node->status.messages_dropped++;
				return 0;
			}
			memset(&error, 0, sizeof(error));
			if (pgraft_wire_decode_message(header, payload, &node->scratch, &message,
										   &error) != PGRAFT_OK)
			{
				pgraft_report(LOG, &error);
				return 1;
			}

			/* what contradicts the protocol is counted by the engine */
			(void) raft_receive(node->raft, &message);
			return 0;
		case PGRAFT_FRAME_REQUEST:
			return pgraft_service_request(node, header, payload);
		case PGRAFT_FRAME_REPLY:
			return pgraft_service_reply(node, header, payload);
		default:
			return 1;
	}
}

static void
on_peer_up(void *context, raft_id peer)
{
	PgraftNode *node = context;
	PgraftPeerContact *contact = pgraft_contact(node, peer);

	contact->up = true;
	contact->refused = false;
	if (node->raft == NULL)
		return;
	raft_peer_found(node->raft, peer);
	pgraft_service_peer_changed(node, peer);
}

static void
on_peer_down(void *context, raft_id peer, int refused)
{
	PgraftNode *node = context;
	PgraftPeerContact *contact = pgraft_contact(node, peer);

	contact->up = false;
	contact->refused = refused != 0;
	if (node->raft == NULL)
		return;
	if (refused)
		raft_peer_lost(node->raft, peer);
	pgraft_service_peer_changed(node, peer);
}

static void
on_peer_refused(void *context, raft_id peer, PgraftHelloStatus status)
{
	static const char *const reasons[] = {
		"", "it belongs to another cluster", "it is another member",
		"it has no state and takes no part", "it does not know this member",
		"it is not able to take part now"
	};
	PgraftNode *node = context;
	PgraftPeerContact *contact = pgraft_contact(node, peer);

	if (!contact->refused && status >= 0 && status < (int) lengthof(reasons))
		ereport(LOG,
				(errmsg("member %u refused the connection: %s", peer, reasons[status]),
				 status == PGRAFT_HELLO_BLANK ?
				 errhint("If it lost its state, remove it and add it again.") : 0));
	contact->up = false;
	contact->refused = true;
}

static void
on_log(void *context, PgraftNetLogLevel level, const char *message)
{
	(void) context;
	ereport(level == PGRAFT_NET_DEBUG ? DEBUG1 : LOG,
			(errmsg_internal("pgraft: %s", message)));
}
