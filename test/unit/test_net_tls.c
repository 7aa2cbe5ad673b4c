/*-------------------------------------------------------------------------
 *
 * test_net_tls.c
 *	  Mutual TLS between members: who is let in, who is not and what is said
 *	  about it, new certificates while connections stand, bad files.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "test_net_fixture.h"

#include <sys/stat.h>

#include "test_net_certificates.h"

static Authority right;
static Authority wrong;
static long serial_of_two;

static void
use_files(raft_id id, const char *stem, const Authority *trusted)
{
	PgraftNetOptions *options = &members[id].options;

	in_directory(options->ssl_cert_file, stem, ".crt");
	in_directory(options->ssl_key_file, stem, ".key");
	strlcpy(options->ssl_ca_file, trusted->file, sizeof(options->ssl_ca_file));
}

static void
start_with(raft_id id, const char *stem, const Authority *trusted, const char *crl)
{
	PgraftError error;

	memset(&error, 0, sizeof(error));
	member_defaults(id);
	use_files(id, stem, trusted);
	if (crl != NULL)
		in_directory(members[id].options.ssl_crl_file, crl, ".crl");
	if (member_start(id, &error) != PGRAFT_OK)
		printf("# member %u: %s\n", id, error.message);
}

static void
make_files(void)
{
	char		file[PATH_SIZE];

	strlcpy(certificate_directory, "/tmp/pgraft_test_tls_XXXXXX", sizeof(certificate_directory));
	if (mkdtemp(certificate_directory) == NULL)
		exit(1);
	make_authority(&right, "authority");
	make_authority(&wrong, "stranger");
	(void) make_certificate(&right, "node1", "node1", "DNS:node1", -1, 5);
	serial_of_two = make_certificate(&right, "node2", "node2", "DNS:node2", -1, 5);
	(void) make_certificate(&right, "node3", "some host", "DNS:a.example,DNS:node3", -1, 5);
	(void) make_certificate(&right, "cn2", "node2", NULL, -1, 5);
	(void) make_certificate(&right, "other", "node9", "DNS:node9,DNS:*", -1, 5);
	(void) make_certificate(&right, "renamed", "new2", "DNS:new2,DNS:node2", -1, 5);
	(void) make_certificate(&right, "expired", "node2", "DNS:node2", -5, -1);
	(void) make_certificate(&right, "future", "node2", "DNS:node2", 1, 5);
	(void) make_certificate(&wrong, "foreign", "node2", "DNS:node2", -1, 5);
	in_directory(file, "revoked", ".crl");
	make_revocation_list(&right, file, serial_of_two);
	in_directory(file, "empty", ".crl");
	make_revocation_list(&right, file, 0);
}

static void
remove_files(void)
{
	static const char *const stems[] = {
		"authority.crt", "stranger.crt", "revoked.crl", "empty.crl", "locked.key",
		"node1.crt", "node1.key", "node2.crt", "node2.key", "node3.crt", "node3.key",
		"cn2.crt", "cn2.key", "other.crt", "other.key", "expired.crt", "expired.key",
		"future.crt", "future.key", "foreign.crt", "foreign.key"
	};
	char		file[PATH_SIZE];
	size_t		i;

	for (i = 0; i < lengthof(stems); i++)
	{
		in_directory(file, stems[i], "");
		(void) unlink(file);
	}
	(void) rmdir(certificate_directory);
	free_authority(&right);
	free_authority(&wrong);
}

/* ----------------------------------------------------------------
 * Those who belong
 * ----------------------------------------------------------------
 */
static void
test_traffic(void)
{
	static unsigned char data[300 * 1000];
	struct raft_message message;
	PgraftNetPeerStats stats;
	size_t		i;
	int			n_sent = 0;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char) (i * 31 + i / 251);
	start_with(1, "node1", &right, NULL);
	start_with(2, "node2", &right, NULL);
	start_with(3, "node3", &right, "empty");
	dial_peers(1, (const raft_id[]) {2, 3, 0});
	dial_peers(2, (const raft_id[]) {1, 3, 0});
	dial_peers(3, (const raft_id[]) {1, 2, 0});
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1) && is_connected(1, 3) &&
			 is_connected(3, 1) && is_connected(2, 3) && is_connected(3, 2)),
	   "three members connect over TLS; one has its name second in the certificate");
	stats = stats_of(1, 2);
	ok(strcmp(stats.tls_version, "TLSv1.3") == 0 && stats.tls_cipher[0] != '\0',
	   "protocol and cipher are shown: %s %s", stats.tls_version, stats.tls_cipher);
	heartbeat(1, 2, 4, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 1 &&
	   UNTIL(members[2].n_frames == 1) && members[2].message.context == 4,
	   "a heartbeat arrives");

	/* much more than the sockets hold: partial writes, and reads in many records */
	members[2].frozen = true;
	while (pgraft_net_send_frame(members[1].net, 2, PGRAFT_FRAME_REQUEST, data, sizeof(data)))
	{
		n_sent++;
		turn(0);
	}
	members[2].frozen = false;
	ok(n_sent > 10 && UNTIL(members[2].n_frames == 1 + n_sent), "megabytes arrive");
	ok(members[2].frame_header.length == sizeof(data) &&
	   memcmp(members[2].frame_payload, data, sizeof(data)) == 0, "... as they were");
	ok(pgraft_net_send_frame(members[2].net, 1, PGRAFT_FRAME_REPLY, data, sizeof(data)) &&
	   UNTIL(members[1].n_frames == 1), "the other way, too");
	ok(UNTIL(stats_of(1, 2).rtt_us >= 0), "the round trip is measured");

	heartbeat(1, 2, 0, &message);
	message.type = RAFT_MSG_SNAPSHOT_REPLY;
	ok(pgraft_net_send_message(members[1].net, &message) == 1 &&
	   UNTIL(members[2].message.type == RAFT_MSG_SNAPSHOT_REPLY), "replies go the main way");
	is_u64(net_stats(1).rejected + net_stats(2).rejected + net_stats(3).rejected, 0,
		   "nobody was rejected");

	member_stop(2);
	ok(UNTIL(members[1].n_refused[2] == 1 && members[3].n_refused[2] == 1),
	   "a death is noticed by all");
	stop_all();
}

static void
test_names(void)
{
	start_with(1, "node1", &right, NULL);
	start_with(2, "cn2", &right, NULL);
	dial_peers(1, (const raft_id[]) {2, 0});
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "a common name is a name");
	stop_all();
}

/* Whoever has not heard of the new name yet knows a renamed member by the old one. */
static void
test_renamed(void)
{
	start_with(1, "node1", &right, NULL);
	start_with(2, "renamed", &right, NULL);
	strlcpy(members[2].options.self.name, "new2", sizeof(members[2].options.self.name));
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	dial_peers(1, (const raft_id[]) {2, 0});
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)),
	   "a renamed member whose certificate bears both names");
	stop_all();

	start_with(1, "node1", &right, NULL);
	start_with(2, "renamed", &right, NULL);
	strlcpy(members[2].options.self.name, "node3", sizeof(members[2].options.self.name));
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], "member 2 is \"node2\" but calls itself \"node3\"") == 1),
	   "not one that takes a third name");
	stop_all();
}

/* TLS 1.2 works, what is older does not. */
static void
test_versions(void)
{
	start_with(1, "node1", &right, NULL);
	start_with(2, "node2", &right, NULL);
	{
		/* the client's context of member 1, which tls.c keeps second */
		SSL_CTX   **contexts = (SSL_CTX **) members[1].net->tls;

		(void) SSL_CTX_set_max_proto_version(contexts[1], TLS1_2_VERSION);
	}
	dial_peers(1, (const raft_id[]) {2, 0});
	ok(UNTIL(is_connected(1, 2)) && strcmp(stats_of(1, 2).tls_version, "TLSv1.2") == 0,
	   "TLS 1.2 is spoken when need be");
	stop_all();

	start_with(1, "node1", &right, NULL);
	start_with(2, "node2", &right, NULL);
	{
		SSL_CTX   **contexts = (SSL_CTX **) members[1].net->tls;

		(void) SSL_CTX_set_min_proto_version(contexts[1], TLS1_1_VERSION);
		(void) SSL_CTX_set_max_proto_version(contexts[1], TLS1_1_VERSION);
		SSL_CTX_set_security_level(contexts[1], 0);
		(void) SSL_CTX_set_cipher_list(contexts[1], "ALL:@SECLEVEL=0");
	}
	dial_peers(1, (const raft_id[]) {2, 0});
	ok(UNTIL(net_stats(2).rejected > 0) && !is_connected(1, 2), "TLS 1.1 is not");
	stop_all();
}

/* ----------------------------------------------------------------
 * Those who do not
 * ----------------------------------------------------------------
 */

/*
 * Member 2 comes with files of its own and dials member 1, which says why it
 * does not let it in.
 */
static void
inbound_refused(const char *stem, const Authority *trusted, const char *crl_of_one,
				const char *text)
{
	start_with(1, "node1", &right, crl_of_one);
	start_with(2, stem, trusted, NULL);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], text) == 1), "refused on accept: %s", text);
	ok(logged(&members[1], "connection from 127.0.0.1 refused") >= 1, "... with the address");
	ok(UNTIL(stats_of(2, 1).connect_failures >= 3), "it tries again");
	ok(members[2].n_up[1] == 0 && members[1].n_hello == 0 && !stats_of(1, 2).inbound,
	   "... and never gets to the host");
	is_u64(logged(&members[1], text), 1, "the log has one line");
	ok(net_stats(1).rejected >= 3, "each attempt is counted");
	printf("# the client says: %s\n", stats_of(2, 1).last_error);
	ok(stats_of(2, 1).last_error[0] != '\0', "the client knows a reason");
	stop_all();
}

/* Member 1 dials a member 2 that is not what it should be. */
static void
dial_refused(const char *stem, const Authority *trusted, const char *crl_of_one,
			 const char *text)
{
	start_with(1, "node1", &right, crl_of_one);
	start_with(2, stem, trusted, NULL);
	dial_peers(1, (const raft_id[]) {2, 0});
	ok(UNTIL(stats_of(1, 2).connect_failures >= 2), "dialing fails: %s", text);
	ok(strstr(stats_of(1, 2).last_error, text) != NULL, "... for that reason: %s",
	   stats_of(1, 2).last_error);
	ok(members[1].n_up[2] == 0 && stats_of(1, 2).errors >= 2 && members[2].n_hello == 0,
	   "the greeting is never sent");
	is_u64(logged(&members[1], text), 1, "the reason is logged once");
	is_u64(members[1].n_refused[2], 0, "its process is not taken for gone");
	stop_all();
}

static void
test_refusals(void)
{
	inbound_refused("foreign", &right, NULL, "certificate verify failed: ");
	inbound_refused("expired", &right, NULL, "certificate verify failed: certificate has expired");
	inbound_refused("future", &right, NULL,
					"certificate verify failed: certificate is not yet valid");
	inbound_refused("node2", &right, "revoked",
					"certificate verify failed: certificate revoked");
	inbound_refused("other", &right, NULL,
					"certificate name \"node9\" does not match member name \"node2\"");

	dial_refused("foreign", &right, NULL, "certificate verify failed: ");
	dial_refused("expired", &right, NULL, "certificate verify failed: certificate has expired");
	dial_refused("node2", &right, "revoked", "certificate verify failed: certificate revoked");
	dial_refused("other", &right, NULL,
				 "certificate name \"node9\" does not match member name \"node2\"");
	dial_refused("node3", &right, NULL, "does not match member name \"node2\"");
}

/* A valid certificate of one member does not make somebody another one. */
static void
test_impostors(void)
{
	start_with(1, "node1", &right, NULL);
	start_with(2, "node3", &right, NULL);
	strlcpy(members[2].options.self.name, "node3", sizeof(members[2].options.self.name));
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], "does not match member name \"node2\"") == 1),
	   "member 3 under its own name but with the id of member 2");
	is_u64(members[1].n_hello, 0, "... is refused before the host is asked");
	stop_all();

	start_with(1, "node1", &right, NULL);
	start_with(2, "node2", &right, NULL);
	strlcpy(members[2].options.self.name, "node3", sizeof(members[2].options.self.name));
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], "member 2 is \"node2\" but calls itself \"node3\"") == 1),
	   "a name that is not the certificate's");
	is_u64(members[1].n_hello, 0, "... is refused, too");
	stop_all();

	/* the host does not know the id: then the certificate must bear the name in the greeting */
	start_with(1, "node1", &right, NULL);
	members[1].know_names = false;
	start_with(2, "node3", &right, NULL);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], "does not match member name \"node2\"") == 1),
	   "a stranger must be who it says it is");
	strlcpy(members[2].options.self.name, "node3", sizeof(members[2].options.self.name));
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	advance(1500);
	ok(UNTIL(members[1].n_hello >= 1), "... and is left to the host if it is");
	stop_all();
}

/* ----------------------------------------------------------------
 * TLS and plaintext
 * ----------------------------------------------------------------
 */
static void
test_mixed(void)
{
	unsigned char frame[2048];
	int			fd;

	start_with(1, "node1", &right, NULL);
	member_defaults(2);
	(void) member_start(2, NULL);
	dial_peers(1, (const raft_id[]) {2, 0});
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(logged(&members[1], "refused: plaintext on a TLS port") == 1),
	   "plaintext is refused by a member with TLS");
	ok(UNTIL(logged(&members[2], "refused: TLS on a plaintext port") == 1),
	   "TLS is refused by a member without");
	ok(members[1].n_hello == 0 && members[2].n_hello == 0, "neither gets to the host");
	is_u64(members[1].n_refused[2] + members[2].n_refused[1], 0, "neither is taken for gone");

	fd = raw_connect(members[1].options.listen_port);
	ok(raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18) &&
	   UNTIL(logged(&members[1], "refused: not a TLS handshake") == 1) && UNTIL(raw_closed(fd)),
	   "garbage is told from plaintext");
	close(fd);
	fd = raw_connect(members[1].options.listen_port);
	ok(raw_send(fd, frame, 0) && UNTIL(net_stats(1).pending > 0), "a silent client");
	close(fd);
	fd = raw_connect(members[1].options.listen_port);
	ok(raw_send(fd, "\026\003\001\000\005hello", 10) && UNTIL(raw_closed(fd)),
	   "something that only begins like TLS");
	ok(UNTIL(logged(&members[1], "TLS handshake failed") == 1), "... fails the handshake");
	close(fd);
	stop_all();

	/* without certificate the client gets nowhere; each reason is logged */
	start_with(1, "node1", &right, NULL);
	fd = raw_connect(members[1].options.listen_port);
	ok(raw_send(fd, "\026\003\001\000\005hello", 10) && UNTIL(raw_closed(fd)) &&
	   logged(&members[1], "TLS handshake failed") == 1, "a failed handshake is logged");
	close(fd);
	{
		SSL_CTX    *context = SSL_CTX_new(TLS_client_method());
		SSL		   *ssl = SSL_new(context);

		fd = raw_connect(members[1].options.listen_port);
		(void) SSL_set_fd(ssl, fd);
		ok(UNTIL(SSL_connect(ssl) == 1) &&
		   UNTIL(logged(&members[1], "peer did not return a certificate") == 1),
		   "a client without a certificate is refused");
		SSL_free(ssl);
		SSL_CTX_free(context);
		close(fd);
	}
	fd = raw_connect(members[1].options.listen_port);
	ok(UNTIL(net_stats(1).pending == 1), "a client that never begins its handshake");
	advance(5200);
	ok(net_stats(1).pending == 0 && raw_closed(fd), "... is closed after the time limit");
	close(fd);
	stop_all();
}

/* ----------------------------------------------------------------
 * Files
 * ----------------------------------------------------------------
 */
static void
test_reload(void)
{
	PgraftNetOptions options;
	PgraftError error;
	PgraftConn *before;

	start_with(1, "node1", &right, NULL);
	start_with(2, "node2", &right, NULL);
	dial_peers(1, (const raft_id[]) {2, 0});
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "connected");
	before = pgraft_peer_find(members[1].net, 2)->main;

	options = members[1].options;
	in_directory(options.ssl_crl_file, "revoked", ".crl");
	ok(pgraft_net_reload_tls(members[1].net, &options, &error) == PGRAFT_OK, "a CRL is loaded");
	advance(1500);
	ok(pgraft_peer_find(members[1].net, 2)->main == before && before->state == CONN_OPEN,
	   "connections that stand stay");
	pgraft_conn_end(before, END_CLOSED, "test");
	ok(UNTIL(strstr(stats_of(1, 2).last_error, "certificate revoked") != NULL),
	   "new ones are held against it");

	use_files(1, "node1", &wrong);
	options = members[1].options;
	strlcpy(options.ssl_key_file, certificate_directory, sizeof(options.ssl_key_file));
	ok(pgraft_net_reload_tls(members[1].net, &options, &error) == PGRAFT_ERR_CONFIG,
	   "wrong files are refused: %s", error.message);
	options.ssl_cert_file[0] = options.ssl_key_file[0] = options.ssl_ca_file[0] = '\0';
	ok(pgraft_net_reload_tls(members[1].net, &options, &error) == PGRAFT_ERR_CONFIG &&
	   error.hint[0] != '\0', "TLS cannot be switched off: %s", error.message);
	use_files(1, "node1", &right);
	members[1].options.ssl_crl_file[0] = '\0';
	ok(pgraft_net_reload_tls(members[1].net, &members[1].options, &error) == PGRAFT_OK,
	   "the right ones are taken again");
	advance(1100);
	ok(UNTIL(is_connected(1, 2)), "... and used");
	stop_all();
}

static void
is_config_error(const char *text)
{
	PgraftError error;

	memset(&error, 0, sizeof(error));
	ok(member_start(1, &error) == PGRAFT_ERR_CONFIG && members[1].net == NULL &&
	   strstr(error.message, text) != NULL, "refused at start: %s", error.message);
}

static void
test_files(void)
{
	char		key[PATH_SIZE];
	FILE	   *stream;

	in_directory(key, "node1", ".key");
	member_defaults(1);
	use_files(1, "node1", &right);
	(void) chmod(key, 0640);
	is_config_error(geteuid() == 0 ? "has group or world access" : "group or world");
	(void) chmod(key, 0604);
	is_config_error("has group or world access");
	(void) chmod(key, 0600);
	if (geteuid() == 0)
	{
		ok(chown(key, 12345, (gid_t) -1) == 0, "the key is given away");
		is_config_error("must be owned by the database user or root");
		ok(chown(key, 0, (gid_t) -1) == 0, "and taken back");
	}

	in_directory(members[1].options.ssl_key_file, "node2", ".key");
	is_config_error("does not match certificate file");
	in_directory(members[1].options.ssl_key_file, "nothing", ".key");
	is_config_error("could not access private key file");
	strlcpy(members[1].options.ssl_key_file, certificate_directory,
			sizeof(members[1].options.ssl_key_file));
	is_config_error("is not a regular file");
	members[1].options.ssl_key_file[0] = '\0';
	is_config_error("must be set together");

	in_directory(key, "locked", ".key");
	{
		EVP_PKEY   *locked = make_key();

		write_key(key, locked, EVP_aes_128_cbc());
		EVP_PKEY_free(locked);
	}
	strlcpy(members[1].options.ssl_key_file, key, sizeof(members[1].options.ssl_key_file));
	is_config_error("protected by a passphrase");

	use_files(1, "node1", &right);
	in_directory(members[1].options.ssl_cert_file, "nothing", ".crt");
	is_config_error("could not load certificate file");
	use_files(1, "node1", &right);
	in_directory(members[1].options.ssl_ca_file, "node1", ".key");
	is_config_error("could not load CA file");
	use_files(1, "node1", &right);
	in_directory(members[1].options.ssl_crl_file, "node1", ".crt");
	is_config_error("could not load certificate revocation list file");
	stream = fopen(key, "w");
	fclose(stream);
	use_files(1, "node1", &right);
	strlcpy(members[1].options.ssl_cert_file, key, sizeof(members[1].options.ssl_cert_file));
	members[1].options.ssl_crl_file[0] = '\0';
	is_config_error("could not load certificate file");

	start_with(1, "other", &right, NULL);
	is_u64(logged(&members[1], "others will refuse it"), 1,
		   "a certificate for somebody else is noticed at start");
	stop_all();
	start_with(1, "expired", &right, NULL);
	is_u64(logged(&members[1], "has expired"), 1, "so is an expired one");
	stop_all();

	/* with certificates any address may be listened on */
	member_defaults(1);
	use_files(1, "node1", &right);
	strlcpy(members[1].options.listen_address, "*", sizeof(members[1].options.listen_address));
	ok(member_start(1, NULL) == PGRAFT_OK && pgraft_net_listen_port(members[1].net) != 0,
	   "with certificates all addresses are listened on");
	start_with(2, "node2", &right, NULL);
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(2, 1)), "... loopback among them");
	stop_all();
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	make_files();
	test_traffic();
	test_names();
	test_renamed();
	test_versions();
	test_refusals();
	test_impostors();
	test_mixed();
	test_reload();
	test_files();
	remove_files();
	return tap_done();
}
