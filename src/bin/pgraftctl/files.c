/*-------------------------------------------------------------------------
 *
 * files.c
 *	  Files that pgraftctl writes: a member's configuration and password file.
 *
 * What belongs to one member alone lies in DATADIR/pgraft.conf, which
 * postgresql.conf includes; a base backup or a rewind brings another member's,
 * so it is written anew after either.  Passwords lie beside the data
 * directory, where no backup takes them along.  Every file is complete or not
 * there: written under another name, flushed, renamed.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/files.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "pqexpbuffer.h"

#define PASSWORD_BYTES 24

static void append_setting(PQExpBuffer buffer, const char *name, const char *value);

bool
ctl_read_file(const char *path, char **contents)
{
	FILE	   *file = fopen(path, "r");
	PQExpBufferData buffer;
	char		piece[4096];
	size_t		n;

	if (file == NULL)
	{
		pg_log_error("could not open file \"%s\": %m", path);
		return false;
	}
	initPQExpBuffer(&buffer);
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
		appendBinaryPQExpBuffer(&buffer, piece, n);
	if (ferror(file) || PQExpBufferBroken(&buffer))
	{
		pg_log_error("could not read file \"%s\": %m", path);
		fclose(file);
		termPQExpBuffer(&buffer);
		return false;
	}
	fclose(file);
	*contents = pg_strdup(buffer.data);
	termPQExpBuffer(&buffer);
	return true;
}

bool
ctl_write_file(const char *path, const char *contents, int mode)
{
	char	   *temporary = psprintf("%s.tmp", path);
	size_t		length = strlen(contents);
	int			fd = open(temporary, O_CREAT | O_WRONLY | O_TRUNC, mode);

	if (fd < 0 || write(fd, contents, length) != (ssize_t) length || fsync(fd) != 0 ||
		close(fd) != 0)
	{
		pg_log_error("could not write file \"%s\": %m", temporary);
		return false;
	}
	return durable_rename(temporary, path) == 0;
}

/* Appends a line to a text file unless the file has it. */
bool
ctl_append_once(const char *path, const char *line)
{
	char	   *contents;
	char	   *longer;
	bool		written;

	if (!ctl_read_file(path, &contents))
		return false;
	if (strstr(contents, line) != NULL)
		return true;
	longer = psprintf("%s\n%s\n", contents, line);
	written = ctl_write_file(path, longer, 0600);
	pg_free(longer);
	pg_free(contents);
	return written;
}

bool
ctl_directory_is_empty(const char *path)
{
	DIR		   *directory = opendir(path);
	struct dirent *entry;
	bool		empty = true;

	if (directory == NULL)
		return errno == ENOENT;
	while ((entry = readdir(directory)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			empty = false;
	closedir(directory);
	return empty;
}

char *
ctl_absolute_path(const char *path)
{
	char	   *absolute = make_absolute_path(path);

	if (absolute == NULL)
		pg_fatal("could not find out the current directory: %m");
	canonicalize_path(absolute);
	return absolute;
}

char *
ctl_random_password(void)
{
	unsigned char bytes[PASSWORD_BYTES];
	char	   *text = pg_malloc(PASSWORD_BYTES * 2 + 1);
	int			i;

	if (!pg_strong_random(bytes, sizeof(bytes)))
		pg_fatal("could not generate a random password");
	for (i = 0; i < PASSWORD_BYTES; i++)
		snprintf(text + i * 2, 3, "%02x", bytes[i]);
	return text;
}

char *
ctl_quote_setting(const char *value)
{
	PQExpBuffer buffer = createPQExpBuffer();
	char	   *quoted;

	appendPQExpBufferChar(buffer, '\'');
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendPQExpBufferChar(buffer, *value);
		appendPQExpBufferChar(buffer, *value);
	}
	appendPQExpBufferChar(buffer, '\'');
	quoted = pg_strdup(buffer->data);
	destroyPQExpBuffer(buffer);
	return quoted;
}

static void
append_setting(PQExpBuffer buffer, const char *name, const char *value)
{
	char	   *quoted = ctl_quote_setting(value);

	appendPQExpBuffer(buffer, "%s = %s\n", name, quoted);
	pg_free(quoted);
}

char *
ctl_member_name(const CtlOptions *options)
{
	if (options->name != NULL)
		return pg_strdup(options->name);
	return psprintf("node%d", options->node_id);
}

char *
ctl_passfile(const char *data_directory)
{
	return psprintf("%s.pgpass", data_directory);
}

bool
ctl_write_passfile(const char *data_directory, const char *user, const char *password)
{
	char	   *path = ctl_passfile(data_directory);
	char	   *line = psprintf("*:*:*:%s:%s\n", user, password);
	bool		written = ctl_write_file(path, line, 0600);

	pg_free(line);
	pg_free(path);
	return written;
}

/* How a member logs in to another's PostgreSQL, wherever that is. */
char *
ctl_member_conninfo(const CtlOptions *options, const char *name)
{
	char	   *tls = options->certificates == NULL ? pg_strdup("") :
		psprintf(" sslmode=verify-ca sslrootcert='%s/ca.crt'", options->certificates);

	return psprintf("user=pgraft_%s passfile='%s' application_name=%s%s", name,
					ctl_passfile(options->data_directory), name, tls);
}

static void
append_certificates(PQExpBuffer text, const char *directory, const char *name)
{
	char	   *certificate = psprintf("%s/%s.crt", directory, name);
	char	   *key = psprintf("%s/%s.key", directory, name);
	char	   *authority = psprintf("%s/ca.crt", directory);

	append_setting(text, "pgraft.ssl_cert_file", certificate);
	append_setting(text, "pgraft.ssl_key_file", key);
	append_setting(text, "pgraft.ssl_ca_file", authority);
	append_setting(text, "ssl", "on");
	append_setting(text, "ssl_cert_file", certificate);
	append_setting(text, "ssl_key_file", key);
	append_setting(text, "ssl_ca_file", authority);
}

/*
 * pgraft.conf of this member, and the lines that make postgresql.conf read it.
 * pgraft.auto.conf comes last: the server itself writes it.
 */
bool
ctl_write_configuration(const CtlOptions *options, const char *name)
{
	PQExpBuffer text = createPQExpBuffer();
	char	   *own = psprintf("%s/pgraft.conf", options->data_directory);
	char	   *main_file = psprintf("%s/postgresql.conf", options->data_directory);
	char	   *hba = psprintf("%s/pg_hba.conf", options->data_directory);
	const char *postgres_address = options->postgres_address != NULL ?
		options->postgres_address : options->address;
	bool		done;

	appendPQExpBufferStr(text, "# Written by pgraftctl: settings of this member alone.\n");
	append_setting(text, "shared_preload_libraries", "pgraft");
	append_setting(text, "pgraft.mode", "ha");
	append_setting(text, "pgraft.cluster_id", options->cluster_id);
	appendPQExpBuffer(text, "pgraft.node_id = %d\n", options->node_id);
	append_setting(text, "pgraft.name", name);
	append_setting(text, "pgraft.address", options->address);
	appendPQExpBuffer(text, "pgraft.port = %d\n", options->consensus_port);
	append_setting(text, "pgraft.postgres_address", postgres_address);
	append_setting(text, "listen_addresses", psprintf("localhost,%s", postgres_address));
	appendPQExpBuffer(text, "port = %d\n", options->postgres_port);
	if (options->socket_directory != NULL)
		append_setting(text, "unix_socket_directories", options->socket_directory);
	append_setting(text, "primary_conninfo", ctl_member_conninfo(options, name));
	appendPQExpBufferStr(text, "wal_level = replica\nwal_log_hints = on\n"
						 "max_wal_senders = 16\nmax_replication_slots = 16\n"
						 "max_worker_processes = 16\n");
	if (options->certificates != NULL)
		append_certificates(text, options->certificates, name);
	done = ctl_write_file(own, text->data, 0600) &&
		ctl_append_once(main_file, "include = 'pgraft.conf'") &&
		ctl_append_once(main_file, "include_if_exists = 'pgraft.auto.conf'") &&
		ctl_append_once(hba, "host replication +pgraft_replication all scram-sha-256") &&
		ctl_append_once(hba, "host postgres +pgraft_replication all scram-sha-256");
	destroyPQExpBuffer(text);
	return done;
}

/* The value of a setting as the server of that directory would see it. */
char *
ctl_read_setting(const char *data_directory, const char *name)
{
	char	   *program = ctl_find_program("postgres");
	char	   *command = psprintf("\"%s\" -D \"%s\" -C \"%s\" 2>/dev/null", program,
								   data_directory, name);
	char		line[4096];
	FILE	   *output = popen(command, "r");
	char	   *value = NULL;

	if (output == NULL)
		pg_fatal("could not execute \"%s\": %m", program);
	if (fgets(line, sizeof(line), output) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		value = pg_strdup(line);
	}
	if (pclose(output) != 0)
		value = NULL;
	pg_free(command);
	return value;
}
