/*-------------------------------------------------------------------------
 *
 * cmd_tls.c
 *	  pgraftctl tls: an authority and members' certificates to begin with.
 *
 * Elliptic-curve keys on P-256, ten years.  The authority's key lies in the
 * same directory: good for a trial, and for production only if it is moved
 * away.  Existing files are never overwritten.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_tls.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define VALID_SECONDS (10L * 365 * 24 * 3600)
#define SERIAL_BITS 120

static bool make_authority(const char *directory);
static bool make_member(const char *directory, const char *name, X509 *authority,
						EVP_PKEY *authority_key);
static EVP_PKEY *make_key(void);
static X509 *make_certificate(const char *name, EVP_PKEY *key, X509 *issuer,
							  EVP_PKEY *issuer_key);
static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value);
static bool write_pem(const char *path, EVP_PKEY *key, X509 *certificate);
static bool load_authority(const char *directory, X509 **authority, EVP_PKEY **key);

int
cmd_tls(int argc, char **argv)
{
	CtlOptions	options;
	int			first = ctl_parse(argc, argv, "", &options);
	char	   *directory;
	X509	   *authority;
	EVP_PKEY   *key;
	int			i;

	if (first < 0)
		return CTL_USAGE;
	if (argc - first < 2)
	{
		pg_log_error("a directory and at least one member name are needed");
		pg_log_error_hint("For example: pgraftctl tls /etc/pgraft node1 node2 node3");
		return CTL_USAGE;
	}
	directory = ctl_absolute_path(argv[first]);
	if (mkdir(directory, 0700) != 0 && errno != EEXIST)
	{
		pg_log_error("could not create directory \"%s\": %m", directory);
		return CTL_FAILED;
	}
	if (!make_authority(directory) || !load_authority(directory, &authority, &key))
		return CTL_FAILED;
	for (i = first + 1; i < argc; i++)
	{
		if (argv[i][0] == '\0' || strpbrk(argv[i], "/ ,") != NULL || strlen(argv[i]) > 63)
		{
			pg_log_error("invalid member name: \"%s\"", argv[i]);
			return CTL_USAGE;
		}
		if (!make_member(directory, argv[i], authority, key))
			return CTL_FAILED;
	}
	printf("Certificates are in \"%s\".  Each member needs ca.crt and its own .crt and .key;\n"
		   "keep ca.key away from servers.\n", directory);
	return CTL_OK;
}

static bool
make_authority(const char *directory)
{
	char	   *path = psprintf("%s/ca.key", directory);
	EVP_PKEY   *key;

	if (access(path, F_OK) == 0)
		return true;
	key = make_key();
	return write_pem(path, key, NULL) &&
		write_pem(psprintf("%s/ca.crt", directory), NULL,
				  make_certificate("pgraft trial authority", key, NULL, key));
}

static bool
make_member(const char *directory, const char *name, X509 *authority, EVP_PKEY *authority_key)
{
	char	   *path = psprintf("%s/%s.key", directory, name);
	EVP_PKEY   *key;

	if (access(path, F_OK) == 0)
	{
		pg_log_info("\"%s\" exists and is kept", path);
		return true;
	}
	key = make_key();
	return write_pem(path, key, NULL) &&
		write_pem(psprintf("%s/%s.crt", directory, name), NULL,
				  make_certificate(name, key, authority, authority_key));
}

static EVP_PKEY *
make_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY   *key = NULL;

	if (context == NULL || EVP_PKEY_keygen_init(context) <= 0 ||
		EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) <= 0 ||
		EVP_PKEY_keygen(context, &key) <= 0)
		pg_fatal("could not generate a key: %s", ERR_error_string(ERR_get_error(), NULL));
	EVP_PKEY_CTX_free(context);
	return key;
}

/* issuer NULL: an authority, signed by itself. */
static X509 *
make_certificate(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509	   *certificate = X509_new();
	BIGNUM	   *serial = BN_new();
	X509_NAME  *subject;
	bool		good;

	if (certificate == NULL || serial == NULL)
		pg_fatal("out of memory");
	subject = X509_get_subject_name(certificate);
	good = X509_set_version(certificate, 2) &&
		BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
		BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != NULL &&
		X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_SECONDS) != NULL &&
		X509_set_pubkey(certificate, key) &&
		X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
								   (const unsigned char *) name, -1, -1, 0) &&
		X509_set_issuer_name(certificate, issuer != NULL ?
							 X509_get_subject_name(issuer) : subject);
	if (good && issuer == NULL)
		good = add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE") &&
			add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
			add_extension(certificate, certificate, NID_subject_key_identifier, "hash");
	else if (good)
		good = add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
			add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
			add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
			add_extension(certificate, issuer, NID_subject_alt_name, psprintf("DNS:%s", name));
	if (!good || X509_sign(certificate, issuer_key, EVP_sha256()) == 0)
		pg_fatal("could not make the certificate of \"%s\": %s", name,
				 ERR_error_string(ERR_get_error(), NULL));
	BN_free(serial);
	return certificate;
}

static bool
add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	context;
	X509_EXTENSION *extension;
	bool		added;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (extension == NULL)
		return false;
	added = X509_add_ext(certificate, extension, -1) != 0;
	X509_EXTENSION_free(extension);
	return added;
}

/* A key is readable by its owner alone from the first moment. */
static bool
write_pem(const char *path, EVP_PKEY *key, X509 *certificate)
{
	int			fd = open(path, O_CREAT | O_EXCL | O_WRONLY, key != NULL ? 0600 : 0644);
	FILE	   *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool		written;

	if (file == NULL)
	{
		pg_log_error("could not create file \"%s\": %m", path);
		return false;
	}
	written = key != NULL ?
		PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) != 0 :
		PEM_write_X509(file, certificate) != 0;
	if (fclose(file) != 0 || !written)
	{
		pg_log_error("could not write file \"%s\": %m", path);
		return false;
	}
	return true;
}

static bool
load_authority(const char *directory, X509 **authority, EVP_PKEY **key)
{
	char	   *certificate_path = psprintf("%s/ca.crt", directory);
	char	   *key_path = psprintf("%s/ca.key", directory);
	FILE	   *certificate_file = fopen(certificate_path, "r");
	FILE	   *key_file = fopen(key_path, "r");

	*authority = certificate_file != NULL ?
		PEM_read_X509(certificate_file, NULL, NULL, NULL) : NULL;
	*key = key_file != NULL ? PEM_read_PrivateKey(key_file, NULL, NULL, NULL) : NULL;
	if (certificate_file != NULL)
		fclose(certificate_file);
	if (key_file != NULL)
		fclose(key_file);
	if (*authority != NULL && *key != NULL)
		return true;
	pg_log_error("could not read the authority in \"%s\"", directory);
	return false;
}
