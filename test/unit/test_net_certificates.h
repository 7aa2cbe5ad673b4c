/*-------------------------------------------------------------------------
 *
 * test_net_certificates.h
 *	  Authorities, certificates and revocation lists for the tests of TLS,
 *	  made in the process so that they can be expired, revoked or odd.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_NET_CERTIFICATES_H
#define PGRAFT_TEST_NET_CERTIFICATES_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define PATH_SIZE 256
#define DAY_SECONDS (24 * 60 * 60)

typedef struct Authority
{
	EVP_PKEY   *key;
	X509	   *certificate;
	char		file[PATH_SIZE];
} Authority;

static char certificate_directory[PATH_SIZE];
static long next_serial = 1;

static inline void
in_directory(char *path, const char *name, const char *suffix)
{
	snprintf(path, PATH_SIZE, "%.150s/%.50s%.20s", certificate_directory, name, suffix);
}

static inline EVP_PKEY *
make_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY   *key = NULL;

	if (EVP_PKEY_keygen_init(context) != 1 ||
		EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) != 1 ||
		EVP_PKEY_keygen(context, &key) != 1)
	{
		ERR_print_errors_fp(stdout);
		exit(1);
	}
	EVP_PKEY_CTX_free(context);
	return key;
}

static inline void
add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	(void) X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

/* Valid from `from_days` to `to_days` from now; signed by the caller. */
static inline X509 *
begin_certificate(EVP_PKEY *key, const char *common_name, int from_days, int to_days)
{
	X509	   *certificate = X509_new();
	X509_NAME  *name = X509_get_subject_name(certificate);

	(void) X509_set_version(certificate, 2);
	(void) ASN1_INTEGER_set(X509_get_serialNumber(certificate), next_serial++);
	(void) X509_gmtime_adj(X509_getm_notBefore(certificate), (long) from_days * DAY_SECONDS);
	(void) X509_gmtime_adj(X509_getm_notAfter(certificate), (long) to_days * DAY_SECONDS);
	(void) X509_set_pubkey(certificate, key);
	(void) X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
									  (const unsigned char *) common_name, -1, -1, 0);
	return certificate;
}

static inline void
write_certificate(const char *file, X509 *certificate)
{
	FILE	   *stream = fopen(file, "w");

	(void) PEM_write_X509(stream, certificate);
	fclose(stream);
}

/* With a passphrase when cipher is not NULL. */
static inline void
write_key(const char *file, EVP_PKEY *key, const EVP_CIPHER *cipher)
{
	char		passphrase[] = "secret";
	FILE	   *stream = fopen(file, "w");

	(void) PEM_write_PrivateKey(stream, key, cipher,
								cipher != NULL ? (unsigned char *) passphrase : NULL,
								cipher != NULL ? (int) strlen(passphrase) : 0, NULL, NULL);
	fclose(stream);
	(void) chmod(file, 0600);
}

static inline void
make_authority(Authority *authority, const char *name)
{
	authority->key = make_key();
	authority->certificate = begin_certificate(authority->key, name, -1, 10);
	(void) X509_set_issuer_name(authority->certificate,
								X509_get_subject_name(authority->certificate));
	add_extension(authority->certificate, authority->certificate, NID_basic_constraints,
				  "critical,CA:TRUE");
	add_extension(authority->certificate, authority->certificate, NID_key_usage,
				  "critical,keyCertSign,cRLSign");
	(void) X509_sign(authority->certificate, authority->key, EVP_sha256());
	in_directory(authority->file, name, ".crt");
	write_certificate(authority->file, authority->certificate);
}

static inline void
free_authority(Authority *authority)
{
	EVP_PKEY_free(authority->key);
	X509_free(authority->certificate);
}

/*
 * Writes stem.crt and stem.key; alternative_names: as in openssl.cnf, NULL =
 * none.  Returns the serial number.
 */
static inline long
make_certificate(const Authority *authority, const char *stem, const char *common_name,
				 const char *alternative_names, int from_days, int to_days)
{
	EVP_PKEY   *key = make_key();
	X509	   *certificate = begin_certificate(key, common_name, from_days, to_days);
	long		serial = ASN1_INTEGER_get(X509_get_serialNumber(certificate));
	char		file[PATH_SIZE];

	(void) X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate));
	if (alternative_names != NULL)
		add_extension(certificate, authority->certificate, NID_subject_alt_name,
					  alternative_names);
	(void) X509_sign(certificate, authority->key, EVP_sha256());
	in_directory(file, stem, ".crt");
	write_certificate(file, certificate);
	in_directory(file, stem, ".key");
	write_key(file, key, NULL);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return serial;
}

/* A list that revokes one certificate; serial 0 = an empty list. */
static inline void
make_revocation_list(const Authority *authority, const char *file, long serial)
{
	X509_CRL   *list = X509_CRL_new();
	ASN1_TIME  *now = X509_gmtime_adj(NULL, -60);
	ASN1_TIME  *later = X509_gmtime_adj(NULL, DAY_SECONDS);
	FILE	   *stream = fopen(file, "w");

	(void) X509_CRL_set_version(list, 1);
	(void) X509_CRL_set_issuer_name(list, X509_get_subject_name(authority->certificate));
	(void) X509_CRL_set1_lastUpdate(list, now);
	(void) X509_CRL_set1_nextUpdate(list, later);
	if (serial != 0)
	{
		X509_REVOKED *revoked = X509_REVOKED_new();
		ASN1_INTEGER *number = ASN1_INTEGER_new();

		(void) ASN1_INTEGER_set(number, serial);
		(void) X509_REVOKED_set_serialNumber(revoked, number);
		(void) X509_REVOKED_set_revocationDate(revoked, now);
		(void) X509_CRL_add0_revoked(list, revoked);
		ASN1_INTEGER_free(number);
	}
	(void) X509_CRL_sign(list, authority->key, EVP_sha256());
	(void) PEM_write_X509_CRL(stream, list);
	fclose(stream);
	ASN1_TIME_free(now);
	ASN1_TIME_free(later);
	X509_CRL_free(list);
}

#endif							/* PGRAFT_TEST_NET_CERTIFICATES_H */
