/*-------------------------------------------------------------------------
 *
 * tls.c
 *	  OpenSSL: contexts from certificate, key, CA and CRL files, non-blocking
 *	  handshake, reading and writing, and what name a certificate bears.
 *
 * Mutual TLS 1.2 or later: each side verifies the other's chain against
 * ssl_ca_file (and ssl_crl_file).  Whose name the certificate must bear is the
 * business of peer.c and listener.c, which ask pgraft_tls_peer_is().
 *
 * The contexts are our own: never those of the server process we live in.
 * Called in the thread of the loop; the process must ignore SIGPIPE.  OpenSSL's
 * error queue is emptied before each call and read right after it.  Nothing
 * longjmps through OpenSSL: there is no callback but the one for passphrases,
 * which refuses.
 *
 * New files (SIGHUP) make a new PgraftTls; connections hold references to the
 * contexts they began with.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/tls.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net_internal.h"

/* TLS 1.2 only: forward secrecy and authenticated encryption, nothing else. */
#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"

#define FOUND_NAME_SIZE 128

struct PgraftTls
{
	SSL_CTX    *server;
	SSL_CTX    *client;
};

static PgraftErrorCode check_key_permissions(const char *file, PgraftError *error);
static SSL_CTX *make_context(const SSL_METHOD *method, const PgraftNetOptions *options,
							 PgraftError *error);
static PgraftErrorCode load_files(SSL_CTX *context, const PgraftNetOptions *options,
								  PgraftError *error);
static PgraftErrorCode load_crl(SSL_CTX *context, const char *file, PgraftError *error);
static bool is_key_mismatch(void);
static int	refuse_passphrase(char *buffer, int size, int writing, void *asked);
static void check_own_certificate(SSL_CTX *context, const PgraftNetOptions *options,
								  char *warning, size_t warning_size);
static const char *queued_error(void);
static PgraftIo failed(PgraftConn *conn, int result, const char *what);
static bool certificate_has_name(X509 *certificate, const char *name,
								 char *found, size_t found_size);
static bool name_equals(const ASN1_STRING *value, const char *name,
						char *found, size_t found_size);

/* ----------------------------------------------------------------
 * Contexts
 * ----------------------------------------------------------------
 */

/*
 * warning: what is suspicious about the own certificate, "" = nothing.
 */
PgraftErrorCode
pgraft_tls_load(PgraftTls **tls, const PgraftNetOptions *options,
				char *warning, size_t warning_size, PgraftError *error)
{
	PgraftTls  *loaded;
	PgraftErrorCode code;

	warning[0] = '\0';
	*tls = NULL;
	if (options->ssl_cert_file[0] == '\0' && options->ssl_key_file[0] == '\0' &&
		options->ssl_ca_file[0] == '\0')
		return PGRAFT_OK;
	if (options->ssl_cert_file[0] == '\0' || options->ssl_key_file[0] == '\0' ||
		options->ssl_ca_file[0] == '\0')
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"certificate, key and CA file must be set together");
	code = check_key_permissions(options->ssl_key_file, error);
	if (code != PGRAFT_OK)
		return code;

	loaded = calloc(1, sizeof(PgraftTls));
	if (loaded == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	loaded->server = make_context(TLS_server_method(), options, error);
	if (loaded->server != NULL)
		loaded->client = make_context(TLS_client_method(), options, error);
	if (loaded->client == NULL)
	{
		pgraft_tls_free(loaded);
		return PGRAFT_ERR_CONFIG;
	}
	check_own_certificate(loaded->client, options, warning, warning_size);
	*tls = loaded;
	return PGRAFT_OK;
}

void
pgraft_tls_free(PgraftTls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->server);
	SSL_CTX_free(tls->client);
	free(tls);
}

/*
 * The server's own rule: nobody but the owner can use the key; a key of root
 * may be readable by a group, so that one file can serve several users.
 */
static PgraftErrorCode
check_key_permissions(const char *file, PgraftError *error)
{
	struct stat status;
	mode_t		forbidden;

	if (stat(file, &status) != 0)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"could not access private key file \"%s\": %s",
							file, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"private key file \"%s\" is not a regular file", file);
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"private key file \"%s\" must be owned by the database user or root",
							file);
	if (status.st_uid == geteuid())
		forbidden = S_IRWXG | S_IRWXO;
	else
		forbidden = S_IWGRP | S_IXGRP | S_IRWXO;
	if ((status.st_mode & forbidden) != 0)
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG,
					 "private key file \"%s\" has group or world access", file);
		pgraft_error_detail(error,
							"File must have permissions u=rw (0600) or less if owned by the database user, or permissions u=rw,g=r (0640) or less if owned by root.");
		return PGRAFT_ERR_CONFIG;
	}
	return PGRAFT_OK;
}

static SSL_CTX *
make_context(const SSL_METHOD *method, const PgraftNetOptions *options, PgraftError *error)
{
	static const unsigned char session_context[] = "pgraft";
	uint64		ssl_options = SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
		SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;
	SSL_CTX    *context;

	ERR_clear_error();
	context = SSL_CTX_new(method);
	if (context == NULL)
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG, "could not create a TLS context: %s",
					 queued_error());
		return NULL;
	}

	/* an end of stream without close_notify is an end of stream: frames have lengths */
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
	ssl_options |= SSL_OP_IGNORE_UNEXPECTED_EOF;
#endif
	SSL_CTX_set_options(context, ssl_options);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_set_session_id_context(context, session_context, sizeof(session_context) - 1) != 1 ||
		SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
		SSL_CTX_set_cipher_list(context, TLS12_CIPHERS) != 1)
		pgraft_error(error, PGRAFT_ERR_CONFIG, "could not set up a TLS context: %s",
					 queued_error());
	else if (load_files(context, options, error) == PGRAFT_OK)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static PgraftErrorCode
load_files(SSL_CTX *context, const PgraftNetOptions *options, PgraftError *error)
{
	STACK_OF(X509_NAME) *names;
	bool		asked = false;

	SSL_CTX_set_default_passwd_cb(context, refuse_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(context, &asked);

	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(context, options->ssl_cert_file) != 1)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"could not load certificate file \"%s\": %s",
							options->ssl_cert_file, queued_error());
	ERR_clear_error();
	if (SSL_CTX_use_PrivateKey_file(context, options->ssl_key_file, SSL_FILETYPE_PEM) != 1 &&
		!is_key_mismatch())
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG,
					 "could not load private key file \"%s\": %s", options->ssl_key_file,
					 asked ? "it is protected by a passphrase" : queued_error());
		if (asked)
			pgraft_error_hint(error, "Remove the passphrase from the key; nobody can type it at start.");
		return PGRAFT_ERR_CONFIG;
	}
	SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
	ERR_clear_error();
	if (SSL_CTX_check_private_key(context) != 1)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"private key file \"%s\" does not match certificate file \"%s\"",
							options->ssl_key_file, options->ssl_cert_file);
	ERR_clear_error();
	names = SSL_load_client_CA_file(options->ssl_ca_file);
	if (names == NULL ||
		SSL_CTX_load_verify_locations(context, options->ssl_ca_file, NULL) != 1)
	{
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"could not load CA file \"%s\": %s",
							options->ssl_ca_file, queued_error());
	}
	SSL_CTX_set_client_CA_list(context, names); /* takes them over */
	if (options->ssl_crl_file[0] != '\0')
		return load_crl(context, options->ssl_crl_file, error);
	return PGRAFT_OK;
}

static PgraftErrorCode
load_crl(SSL_CTX *context, const char *file, PgraftError *error)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	X509_LOOKUP *lookup;

	ERR_clear_error();
	lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	if (lookup == NULL || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) < 1)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"could not load certificate revocation list file \"%s\": %s",
							file, queued_error());
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return PGRAFT_OK;
}

/* OpenSSL compares with the certificate already when it loads a key. */
static bool
is_key_mismatch(void)
{
	unsigned long code = ERR_peek_error();

	return ERR_GET_LIB(code) == ERR_LIB_X509 &&
		(ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH ||
		 ERR_GET_REASON(code) == X509_R_KEY_TYPE_MISMATCH);
}

/* Nobody is there to answer, and a prompt would stop the loop. */
static int
refuse_passphrase(char *buffer, int size, int writing, void *asked)
{
	(void) writing;
	if (size > 0)
		buffer[0] = '\0';
	if (asked != NULL)
		*(bool *) asked = true;
	return 0;
}

static void
check_own_certificate(SSL_CTX *context, const PgraftNetOptions *options,
					  char *warning, size_t warning_size)
{
	X509	   *own = SSL_CTX_get0_certificate(context);
	char		found[FOUND_NAME_SIZE];

	if (own == NULL)
		return;
	if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0)
		snprintf(warning, warning_size, "certificate file \"%s\" has expired",
				 options->ssl_cert_file);
	else if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
		snprintf(warning, warning_size, "certificate file \"%s\" is not yet valid",
				 options->ssl_cert_file);
	else if (!certificate_has_name(own, options->self.name, found, sizeof(found)))
		snprintf(warning, warning_size,
				 "certificate file \"%s\" is for \"%s\", but this member is \"%s\": others will refuse it",
				 options->ssl_cert_file, found, options->self.name);
}

/* Text of the oldest queued error, which names the cause; empties the queue. */
static const char *
queued_error(void)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_reason_error_string(code);

	if (code == 0)
		reason = "no error reported";
#ifdef ERR_SYSTEM_ERROR
	else if (ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
#else
	else if (ERR_GET_LIB(code) == ERR_LIB_SYS)
		reason = strerror(ERR_GET_REASON(code));
#endif
	ERR_clear_error();
	return reason != NULL ? reason : "unrecognized TLS error";
}

/* ----------------------------------------------------------------
 * Connections
 * ----------------------------------------------------------------
 */

/* False: out of memory. */
bool
pgraft_tls_start(PgraftConn *conn, bool is_server)
{
	PgraftTls  *tls = conn->net->tls;

	ERR_clear_error();
	conn->ssl = SSL_new(is_server ? tls->server : tls->client);
	if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1)
		return false;
	if (is_server)
		SSL_set_accept_state(conn->ssl);
	else
		SSL_set_connect_state(conn->ssl);
	return true;
}

PgraftIo
pgraft_tls_handshake(PgraftConn *conn)
{
	int			result;

	ERR_clear_error();
	errno = 0;
	result = SSL_do_handshake(conn->ssl);
	if (result == 1)
		return IO_DONE;
	return failed(conn, result, "TLS handshake failed");
}

PgraftIo
pgraft_tls_read(PgraftConn *conn, unsigned char *data, size_t size, size_t *n_read)
{
	int			result;

	ERR_clear_error();
	errno = 0;
	result = SSL_read(conn->ssl, data, (int) Min(size, INT_MAX));
	if (result > 0)
	{
		*n_read = (size_t) result;
		return IO_DONE;
	}
	return failed(conn, result, "TLS connection failed");
}

/*
 * A write that has to wait is repeated with at least the same bytes, because
 * the queue only grows behind them.
 */
PgraftIo
pgraft_tls_write(PgraftConn *conn, const unsigned char *data, size_t length, size_t *n_written)
{
	PgraftIo	io;
	int			result;

	ERR_clear_error();
	errno = 0;
	result = SSL_write(conn->ssl, data, (int) Min(length, INT_MAX));
	if (result > 0)
	{
		*n_written = (size_t) result;
		return IO_DONE;
	}
	if (SSL_get_error(conn->ssl, result) == SSL_ERROR_WANT_READ)
	{
		conn->write_wants_read = true;
		return IO_WAIT;
	}
	io = failed(conn, result, "TLS connection failed");

	/* that the socket is full concerns the write only */
	conn->read_wants_write = false;
	return io;
}

/* Sets conn->read_wants_write when IO_WAIT is for output. */
static PgraftIo
failed(PgraftConn *conn, int result, const char *what)
{
	int			system_error = errno;
	int			kind = SSL_get_error(conn->ssl, result);
	long		verdict;

	if (kind == SSL_ERROR_WANT_READ)
		return IO_WAIT;
	if (kind == SSL_ERROR_WANT_WRITE)
	{
		conn->read_wants_write = true;
		return IO_WAIT;
	}

	/* after a fatal error OpenSSL wants no SSL_shutdown() */
	conn->tls_established = false;
	if (kind == SSL_ERROR_ZERO_RETURN)
		return IO_CLOSED;
	if (ERR_peek_error() == 0)
	{
		if (system_error == 0 || system_error == ECONNRESET || system_error == EPIPE)
			return IO_CLOSED;
		snprintf(conn->reason, sizeof(conn->reason), "%s: %s", what, strerror(system_error));
		return IO_FAILED;
	}
	verdict = SSL_get_verify_result(conn->ssl);
	if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL &&
		ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED &&
		verdict != X509_V_OK)
	{
		ERR_clear_error();
		snprintf(conn->reason, sizeof(conn->reason), "certificate verify failed: %s",
				 X509_verify_cert_error_string(verdict));
	}
	else
		snprintf(conn->reason, sizeof(conn->reason), "%s: %s", what, queued_error());
	return IO_FAILED;
}

/* ----------------------------------------------------------------
 * Names
 * ----------------------------------------------------------------
 */

/*
 * Whether the other side's certificate is made out to `name`: a DNS name of
 * its subjectAltName or its common name is that very string.  found gets the
 * first name that it bears, fit to be logged.
 */
bool
pgraft_tls_peer_is(PgraftConn *conn, const char *name, char *found, size_t found_size)
{
	X509	   *certificate = SSL_get_peer_certificate(conn->ssl);
	bool		result;

	snprintf(found, found_size, "none");
	if (certificate == NULL)
		return false;
	result = certificate_has_name(certificate, name, found, found_size);
	X509_free(certificate);
	return result;
}

static bool
certificate_has_name(X509 *certificate, const char *name, char *found, size_t found_size)
{
	GENERAL_NAMES *names;
	X509_NAME  *subject = X509_get_subject_name(certificate);
	bool		result = false;
	int			at = -1;
	int			i;

	found[0] = '\0';
	while (!result && (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0)
		result = name_equals(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)),
							 name, found, found_size);

	names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	for (i = 0; !result && i < sk_GENERAL_NAME_num(names); i++)
	{
		const GENERAL_NAME *alternative = sk_GENERAL_NAME_value(names, i);

		if (alternative->type == GEN_DNS)
			result = name_equals(alternative->d.dNSName, name, found, found_size);
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	if (found[0] == '\0')
		strlcpy(found, "none", found_size);
	return result && name[0] != '\0';
}

static bool
name_equals(const ASN1_STRING *value, const char *name, char *found, size_t found_size)
{
	unsigned char *text = NULL;
	int			length = ASN1_STRING_to_UTF8(&text, value);
	size_t		i;
	bool		result;

	if (length < 0)
		return false;

	/* by length: a NUL inside must not cut the comparison short */
	result = (size_t) length == strlen(name) && memcmp(text, name, (size_t) length) == 0;
	if (found[0] == '\0')
	{
		/* it goes into our log: no control characters */
		for (i = 0; i < (size_t) length && i < found_size - 1; i++)
			found[i] = text[i] >= 0x20 && text[i] < 0x7f ? (char) text[i] : '?';
		found[i] = '\0';
	}
	OPENSSL_free(text);
	return result;
}
