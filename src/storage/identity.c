/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Who a storage directory belongs to: identity file, lock file, and making
 *	  a new directory.
 *
 * The identity file is renamed into place after everything else of a new
 * directory is durable, and never changes.  While it is being made, a file
 * "creating" says that whatever lies there may be thrown away.  Log files
 * without either are the remains of a lost identity; they hold promises (votes,
 * acknowledged entries), so they are refused and never overwritten.
 *
 * The identity holds device and inode of the directory: a copy or a restored
 * backup has others and is refused, because two members with one identity, or
 * one that forgot its promises, break consensus.
 *
 * FORMAT of "identity": 256 bytes, integers little-endian
 *
 *	  0	 8	magic "PGRAFTID"
 *	  8	 4	format version, 1
 *	 12	 4	node id
 *	 16	 8	cluster uid
 *	 24	 8	incarnation
 *	 32	 8	member uid
 *	 40	 8	device of the directory
 *	 48	 8	inode of the directory
 *	 56	64	cluster id, padded with zeros, at least one
 *	120	.	zeros
 *	252	 4	CRC of bytes 0 to 251
 *
 * Called on the loop, before there is a flush thread.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/identity.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>
#include <unistd.h>

#include "internal.h"

#define LOCK_TEXT_BYTES 24

static const unsigned char identity_magic[8] = {'P', 'G', 'R', 'A', 'F', 'T', 'I', 'D'};

static PgraftErrorCode decode_identity(const unsigned char *buffer, const char *path,
									   PgraftIdentity *identity,
									   raft_u64 *device, raft_u64 *inode,
									   PgraftError *error);
static PgraftErrorCode explain_missing(PgraftIo *io, const char *directory,
									   PgraftError *error);
static PgraftErrorCode make_directory(PgraftIo *io, const char *directory,
									  PgraftError *error);
static PgraftErrorCode begin_creating(PgraftIo *io, const char *directory,
									  PgraftError *error);
static PgraftErrorCode write_first_log(PgraftIo *io, const char *directory,
									   const PgraftStorageOptions *options,
									   const PgraftIdentity *identity,
									   const struct raft_hard_state *hard_state,
									   const struct raft_entry *entries,
									   size_t n_entries, PgraftError *error);
static PgraftErrorCode create_locked(PgraftIo *io, const char *directory,
									 const PgraftStorageOptions *options,
									 const PgraftIdentity *identity,
									 const struct raft_hard_state *hard_state,
									 const struct raft_entry *entries,
									 size_t n_entries, PgraftError *error);

/* ----------------------------------------------------------------
 * Identity file
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
decode_identity(const unsigned char *buffer, const char *path,
				PgraftIdentity *identity, raft_u64 *device, raft_u64 *inode,
				PgraftError *error)
{
	if (memcmp(buffer, identity_magic, sizeof(identity_magic)) != 0)
		return pgraft_corrupt(error, path, 0, "identity file has a wrong magic number");
	if (pgraft_get32(buffer + 252) != pgraft_crc32c(buffer, 252))
		return pgraft_corrupt(error, path, 252, "identity file checksum does not match");
	if (pgraft_get32(buffer + 8) != PGRAFT_FORMAT_VERSION)
		return pgraft_corrupt(error, path, 8, "format version is not supported");
	memset(identity, 0, sizeof(*identity));
	identity->node_id = pgraft_get32(buffer + 12);
	identity->cluster_uid = pgraft_get64(buffer + 16);
	identity->incarnation = pgraft_get64(buffer + 24);
	identity->member_uid = pgraft_get64(buffer + 32);
	*device = pgraft_get64(buffer + 40);
	*inode = pgraft_get64(buffer + 48);
	memcpy(identity->cluster_id, buffer + 56, sizeof(identity->cluster_id));
	identity->cluster_id[sizeof(identity->cluster_id) - 1] = '\0';
	return PGRAFT_OK;
}

/* There is no identity file: is the directory blank, or did it lose the file? */
static PgraftErrorCode
explain_missing(PgraftIo *io, const char *directory, PgraftError *error)
{
	PgraftFileList files;
	PgraftErrorCode code;
	raft_index	index;
	raft_term	term;
	uint32		slot;
	size_t		i;

	code = pgraft_list_files(io, directory, &files, error);
	if (code == PGRAFT_OK && !files.has_creating)
		for (i = 0; i < files.n; i++)
			if (pgraft_parse_segment_name(files.names[i].name, &slot) ||
				pgraft_parse_snapshot_name(files.names[i].name, &index, &term))
			{
				code = pgraft_error(error, PGRAFT_ERR_CORRUPT,
									"storage directory \"%s\" has log files but no identity file",
									directory);
				pgraft_error_detail(error, "The member these files belong to may have voted or acknowledged entries.");
				pgraft_error_hint(error, "Remove the member from the cluster, empty the directory, and let the member join again.");
				break;
			}
	free(files.names);
	if (code != PGRAFT_OK)
		return code;
	return pgraft_error(error, PGRAFT_ERR_NOT_FOUND,
						"storage directory \"%s\" is blank", directory);
}

PgraftErrorCode
pgraft_storage_read_identity(PgraftIo *io, const char *directory,
							 PgraftIdentity *identity, PgraftError *error)
{
	unsigned char buffer[PGRAFT_IDENTITY_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	raft_u64	device = 0;
	raft_u64	inode = 0;
	unsigned long real_device;
	unsigned long real_inode;
	PgraftErrorCode code;
	int			fd;

	if (strlen(directory) + PGRAFT_NAME_BYTES + 1 >= PGRAFT_PATH_BYTES)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"storage directory path \"%s\" is too long", directory);
	pgraft_path(path, directory, "identity");
	fd = io->open(io, path, O_RDONLY);
	if (fd < 0 && errno == ENOENT)
		return explain_missing(io, directory, error);
	if (fd < 0)
		return pgraft_io_error(error, "open file", path);
	code = pgraft_read_at(io, fd, path, buffer, sizeof(buffer), 0, error);
	io->close(io, fd);
	if (code == PGRAFT_OK)
		code = decode_identity(buffer, path, identity, &device, &inode, error);
	if (code != PGRAFT_OK)
		return code;
	if (io->identify(io, directory, &real_device, &real_inode) < 0)
		return pgraft_io_error(error, "stat directory", directory);
	if (device != real_device || inode != real_inode)
	{
		pgraft_error(error, PGRAFT_ERR_CLONE,
					 "storage directory \"%s\" is a copy", directory);
		pgraft_error_detail(error, "It was made as device %lu, inode %lu, and is now device %lu, inode %lu.",
							device, inode, real_device, real_inode);
		pgraft_error_hint(error, "Remove this directory and let the member join again.");
		return PGRAFT_ERR_CLONE;
	}
	return PGRAFT_OK;
}

/* Durable when this returns PGRAFT_OK, whole or not there otherwise. */
PgraftErrorCode
pgraft_write_identity(PgraftIo *io, const char *directory,
					  const PgraftIdentity *identity, PgraftError *error)
{
	unsigned char buffer[PGRAFT_IDENTITY_BYTES];
	char		temporary[PGRAFT_PATH_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	unsigned long device;
	unsigned long inode;
	PgraftErrorCode code;
	int			fd;

	pgraft_path(temporary, directory, "identity.tmp");
	pgraft_path(path, directory, "identity");
	if (io->identify(io, directory, &device, &inode) < 0)
		return pgraft_io_error(error, "stat directory", directory);
	memset(buffer, 0, sizeof(buffer));
	memcpy(buffer, identity_magic, sizeof(identity_magic));
	pgraft_put32(buffer + 8, PGRAFT_FORMAT_VERSION);
	pgraft_put32(buffer + 12, identity->node_id);
	pgraft_put64(buffer + 16, identity->cluster_uid);
	pgraft_put64(buffer + 24, identity->incarnation);
	pgraft_put64(buffer + 32, identity->member_uid);
	pgraft_put64(buffer + 40, device);
	pgraft_put64(buffer + 48, inode);
	memcpy(buffer + 56, identity->cluster_id,
		   strnlen(identity->cluster_id, sizeof(identity->cluster_id) - 1));
	pgraft_put32(buffer + 252, pgraft_crc32c(buffer, 252));

	fd = io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC);
	if (fd < 0)
		return pgraft_io_error(error, "create file", temporary);
	code = pgraft_write_at(io, fd, temporary, buffer, sizeof(buffer), 0, error);
	if (code == PGRAFT_OK && io->fsync(io, fd) < 0)
		code = pgraft_flush_error(error, "fsync file", temporary);
	io->close(io, fd);
	if (code == PGRAFT_OK && io->rename(io, temporary, path) < 0)
		code = pgraft_io_error(error, "rename file", temporary);
	if (code == PGRAFT_OK)
		code = pgraft_sync_directory(io, directory, error);
	return code;
}

/* ----------------------------------------------------------------
 * Lock file
 * ----------------------------------------------------------------
 */

/* The lock goes with the descriptor: no stale lock after a crash. */
PgraftErrorCode
pgraft_lock_directory(PgraftIo *io, const char *directory, int *fd,
					  PgraftError *error)
{
	char		path[PGRAFT_PATH_BYTES];
	char		text[LOCK_TEXT_BYTES + 1];
	PgraftErrorCode code;
	ssize_t		n;

	pgraft_path(path, directory, "lock");
	*fd = io->open(io, path, O_RDWR | O_CREAT);
	if (*fd < 0)
		return pgraft_io_error(error, "open file", path);
	if (io->lock(io, *fd) == 0)
	{
		/* for people; its absence would not matter */
		snprintf(text, sizeof(text), "%-23ld\n", (long) getpid());
		(void) pgraft_write_at(io, *fd, path, text, LOCK_TEXT_BYTES, 0, NULL);
		return PGRAFT_OK;
	}
	if (errno != EWOULDBLOCK)
		code = pgraft_io_error(error, "lock file", path);
	else
	{
		code = pgraft_error(error, PGRAFT_ERR_IN_USE,
							"storage directory \"%s\" is in use", directory);
		n = io->pread(io, *fd, text, LOCK_TEXT_BYTES, 0);
		if (n > 0)
		{
			text[n] = '\0';
			text[strcspn(text, " \n")] = '\0';
			pgraft_error_detail(error, "Process %s has locked file \"%s\".",
								text, path);
		}
	}
	io->close(io, *fd);
	*fd = -1;
	return code;
}

/* ----------------------------------------------------------------
 * Making a directory
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
make_directory(PgraftIo *io, const char *directory, PgraftError *error)
{
	char		parent[PGRAFT_PATH_BYTES];
	char	   *slash;

	if (strlen(directory) + PGRAFT_NAME_BYTES + 1 >= PGRAFT_PATH_BYTES)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"storage directory path \"%s\" is too long", directory);
	if (io->mkdir(io, directory) < 0 && errno != EEXIST)
		return pgraft_io_error(error, "create directory", directory);

	/* an interrupted attempt may have made it without syncing the parent */
	strlcpy(parent, directory, sizeof(parent));
	while (strlen(parent) > 1 && parent[strlen(parent) - 1] == '/')
		parent[strlen(parent) - 1] = '\0';
	slash = strrchr(parent, '/');
	if (slash == NULL)
		strlcpy(parent, ".", sizeof(parent));
	else if (slash == parent)
		parent[1] = '\0';
	else
		*slash = '\0';
	return pgraft_sync_directory(io, parent, error);
}

/*
 * Makes the "creating" file durable before anything else exists, and removes
 * what an interrupted attempt left.
 */
static PgraftErrorCode
begin_creating(PgraftIo *io, const char *directory, PgraftError *error)
{
	char		path[PGRAFT_PATH_BYTES];
	PgraftFileList files;
	PgraftErrorCode code;
	raft_index	index;
	raft_term	term;
	uint32		slot;
	size_t		i;
	int			fd;

	pgraft_path(path, directory, "creating");
	fd = io->open(io, path, O_RDWR | O_CREAT);
	if (fd < 0)
		return pgraft_io_error(error, "create file", path);
	io->close(io, fd);
	code = pgraft_sync_directory(io, directory, error);
	if (code != PGRAFT_OK)
		return code;
	code = pgraft_list_files(io, directory, &files, error);
	for (i = 0; code == PGRAFT_OK && i < files.n; i++)
		if (pgraft_parse_segment_name(files.names[i].name, &slot) ||
			pgraft_parse_snapshot_name(files.names[i].name, &index, &term) ||
			pgraft_is_temporary_name(files.names[i].name))
			code = pgraft_remove(io, directory, files.names[i].name, error);
	free(files.names);
	return code;
}

/* Segment 1, with what the caller wants in its first batch. */
static PgraftErrorCode
write_first_log(PgraftIo *io, const char *directory,
				const PgraftStorageOptions *options,
				const PgraftIdentity *identity,
				const struct raft_hard_state *hard_state,
				const struct raft_entry *entries, size_t n_entries,
				PgraftError *error)
{
	PgraftStorage *storage = pgraft_storage_allocate(io, directory, options, identity);
	struct raft_update update;
	PgraftJob  *job = NULL;
	PgraftErrorCode code;

	if (storage == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	memset(&update, 0, sizeof(update));
	update.must_sync = 1;
	if (hard_state != NULL)
	{
		update.hard_state_changed = 1;
		update.hard_state = *hard_state;
	}
	update.entries = entries;
	update.n_entries = n_entries;
	code = pgraft_activate_segment(storage, 0, NULL, error);
	if (code == PGRAFT_OK)
		code = pgraft_storage_prepare(storage, &update, &job, error);
	if (code == PGRAFT_OK)
	{
		code = pgraft_storage_execute(storage, job, error);
		pgraft_job_discard(job);
	}
	pgraft_storage_release(storage);
	return code;
}

static PgraftErrorCode
create_locked(PgraftIo *io, const char *directory,
			  const PgraftStorageOptions *options, const PgraftIdentity *identity,
			  const struct raft_hard_state *hard_state,
			  const struct raft_entry *entries, size_t n_entries,
			  PgraftError *error)
{
	PgraftIdentity present;
	PgraftErrorCode code;

	code = pgraft_storage_read_identity(io, directory, &present, error);
	if (code == PGRAFT_OK || code == PGRAFT_ERR_CLONE)
		return pgraft_error(error, PGRAFT_ERR_IN_USE,
							"storage directory \"%s\" already has an identity",
							directory);
	if (code != PGRAFT_ERR_NOT_FOUND)
		return code;
	code = begin_creating(io, directory, error);
	if (code == PGRAFT_OK)
		code = write_first_log(io, directory, options, identity, hard_state,
							   entries, n_entries, error);
	if (code == PGRAFT_OK)
		code = pgraft_write_identity(io, directory, identity, error);
	if (code == PGRAFT_OK)
		code = pgraft_remove(io, directory, "creating", error);
	if (code == PGRAFT_OK)
		code = pgraft_sync_directory(io, directory, error);
	return code;
}

PgraftErrorCode
pgraft_storage_create(PgraftIo *io, const char *directory,
					  const PgraftStorageOptions *options,
					  const PgraftIdentity *identity,
					  const struct raft_hard_state *hard_state,
					  const struct raft_entry *entries, size_t n_entries,
					  PgraftError *error)
{
	PgraftErrorCode code;
	int			lock_fd;

	if (identity->member_uid == 0)
		return pgraft_error(error, PGRAFT_ERR_INTERNAL, "member uid is zero");
	code = make_directory(io, directory, error);
	if (code == PGRAFT_OK)
		code = pgraft_lock_directory(io, directory, &lock_fd, error);
	if (code != PGRAFT_OK)
		return code;
	code = create_locked(io, directory, options, identity, hard_state,
						 entries, n_entries, error);
	io->close(io, lock_fd);
	return code;
}
