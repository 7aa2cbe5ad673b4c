/*-------------------------------------------------------------------------
 *
 * snapshot.c
 *	  Snapshot files: writing, reading, checking.
 *
 * A snapshot file is written under a temporary name, fsync'ed, renamed, and
 * the directory fsync'ed; only then may a record of the log name it, and only
 * a snapshot named by the log counts (see storage.c).  So a crash at any step
 * leaves the snapshot before it in force.
 *
 * FORMAT (integers little-endian)
 *
 *	  0	 8	magic "PGRAFTSN"
 *	  8	 4	format version, 1
 *	 12	 4	length of the configuration
 *	 16	 8	index of the last entry covered
 *	 24	 8	its term
 *	 32	 8	index of the entry that carries the configuration
 *	 40	 8	length of the data
 *	 48	 8	member uid
 *	 56	 8	offset of the data, a multiple of 8
 *	 64	 8	offset of the block table, a multiple of 8
 *	 72	 4	block size, 65536
 *	 76	 4	number of blocks
 *	 80	 4	CRC of the block table
 *	 84	 4	CRC of bytes 0 to 83 followed by the configuration
 *	 88		configuration, as raft_config_encode() wrote it
 *	  .		data
 *	  .		block table: CRC (4 bytes) of each block of the data; the last block
 *			may be shorter
 *
 * The table lets a chunk in the middle be checked before it is sent to a peer.
 *
 * Writers belong to one thread at a time: a local one to the loop, then to
 * saver.c, then to the loop again; an incoming one to the flush thread.  Readers
 * belong to the loop.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/snapshot.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "port/pg_crc32c.h"

#include "internal.h"

static const unsigned char snapshot_magic[8] = {'P', 'G', 'R', 'A', 'F', 'T', 'S', 'N'};

static size_t data_offset(size_t config_length);
static PgraftErrorCode flush_block(PgraftIo *io, PgraftSnapshotFile *file,
								   PgraftError *error);
static PgraftErrorCode write_table(PgraftIo *io, PgraftSnapshotFile *file,
								   const char *path, uint32 *table_crc,
								   PgraftError *error);
static void encode_header(unsigned char *buffer, const PgraftSnapshotFile *file,
						  uint32 table_crc);
static const char *decode_header(PgraftSnapshotReader *reader,
								 const unsigned char *buffer, off_t size);
static PgraftErrorCode read_table(PgraftIo *io, PgraftSnapshotReader *reader,
								  const char *path, raft_u64 offset,
								  uint32 table_crc, PgraftError *error);

static size_t
data_offset(size_t config_length)
{
	return PGRAFT_ALIGN8(PGRAFT_SNAPSHOT_HEADER_BYTES + config_length);
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

/*
 * The caller has set index, term, config_index and member_uid.  On failure
 * nothing is left in memory, and the temporary file, if any, is overwritten by
 * the next attempt.
 */
PgraftErrorCode
pgraft_snapshot_file_begin(PgraftIo *io, const char *directory,
						   PgraftSnapshotFile *file, const char *temporary,
						   const unsigned char *config, size_t config_length,
						   PgraftError *error)
{
	char		path[PGRAFT_PATH_BYTES];

	file->length = 0;
	file->fill = 0;
	file->n_blocks = 0;
	file->table = NULL;
	file->table_allocated = 0;
	file->fd = -1;
	file->config_length = config_length;
	file->config = calloc(1, PGRAFT_ALIGN8(config_length) + 1);
	file->block = malloc(PGRAFT_SNAPSHOT_BLOCK_BYTES);
	if (file->config == NULL || file->block == NULL)
	{
		pgraft_snapshot_file_free(io, file);
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	memcpy(file->config, config, config_length);
	snprintf(file->temporary, sizeof(file->temporary), "%s", temporary);
	pgraft_path(path, directory, temporary);
	file->fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC);
	if (file->fd < 0)
	{
		PgraftErrorCode code = pgraft_io_error(error, "create file", path);

		pgraft_snapshot_file_free(io, file);
		return code;
	}
	return PGRAFT_OK;
}

/* Writes the full (or last) block; file->length already counts it. */
static PgraftErrorCode
flush_block(PgraftIo *io, PgraftSnapshotFile *file, PgraftError *error)
{
	off_t		offset = (off_t) data_offset(file->config_length) +
		(off_t) (file->n_blocks * PGRAFT_SNAPSHOT_BLOCK_BYTES);
	PgraftErrorCode code;

	if (!pgraft_grow((void **) &file->table, &file->table_allocated,
					 file->n_blocks + 1, sizeof(uint32)))
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	code = pgraft_write_at(io, file->fd, file->temporary, file->block,
						   file->fill, offset, error);
	if (code != PGRAFT_OK)
		return code;
	file->table[file->n_blocks++] = pgraft_crc32c(file->block, file->fill);
	file->fill = 0;
	return PGRAFT_OK;
}

/*
 * A block is written before the next byte would not fit, so after a failure
 * file->length tells exactly which bytes of data were taken, and the caller
 * may go on with the rest later.
 */
PgraftErrorCode
pgraft_snapshot_file_append(PgraftIo *io, PgraftSnapshotFile *file,
							const unsigned char *data, size_t length,
							PgraftError *error)
{
	while (length > 0)
	{
		size_t		n;

		if (file->fill == PGRAFT_SNAPSHOT_BLOCK_BYTES)
		{
			PgraftErrorCode code = flush_block(io, file, error);

			if (code != PGRAFT_OK)
				return code;
		}
		n = Min(length, PGRAFT_SNAPSHOT_BLOCK_BYTES - file->fill);
		memcpy(file->block + file->fill, data, n);
		file->fill += n;
		file->length += n;
		data += n;
		length -= n;
	}
	return PGRAFT_OK;
}

static PgraftErrorCode
write_table(PgraftIo *io, PgraftSnapshotFile *file, const char *path,
			uint32 *table_crc, PgraftError *error)
{
	size_t		bytes = file->n_blocks * 4;
	unsigned char *table = malloc(bytes + 1);
	PgraftErrorCode code;
	size_t		i;

	if (table == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	for (i = 0; i < file->n_blocks; i++)
		pgraft_put32(table + i * 4, file->table[i]);
	*table_crc = pgraft_crc32c(table, bytes);
	code = pgraft_write_at(io, file->fd, path, table, bytes,
						   (off_t) (data_offset(file->config_length) +
									PGRAFT_ALIGN8(file->length)), error);
	free(table);
	return code;
}

static void
encode_header(unsigned char *buffer, const PgraftSnapshotFile *file,
			  uint32 table_crc)
{
	pg_crc32c	crc;

	memset(buffer, 0, PGRAFT_SNAPSHOT_HEADER_BYTES);
	memcpy(buffer, snapshot_magic, sizeof(snapshot_magic));
	pgraft_put32(buffer + 8, PGRAFT_FORMAT_VERSION);
	pgraft_put32(buffer + 12, (uint32) file->config_length);
	pgraft_put64(buffer + 16, file->index);
	pgraft_put64(buffer + 24, file->term);
	pgraft_put64(buffer + 32, file->config_index);
	pgraft_put64(buffer + 40, file->length);
	pgraft_put64(buffer + 48, file->member_uid);
	pgraft_put64(buffer + 56, data_offset(file->config_length));
	pgraft_put64(buffer + 64, data_offset(file->config_length) +
				 PGRAFT_ALIGN8(file->length));
	pgraft_put32(buffer + 72, PGRAFT_SNAPSHOT_BLOCK_BYTES);
	pgraft_put32(buffer + 76, (uint32) file->n_blocks);
	pgraft_put32(buffer + 80, table_crc);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, buffer, 84);
	COMP_CRC32C(crc, file->config, file->config_length);
	FIN_CRC32C(crc);
	pgraft_put32(buffer + 84, crc);
}

/*
 * Makes the file durable under its final name.  Everything before the rename
 * may be repeated after PGRAFT_ERR_NO_SPACE.
 */
PgraftErrorCode
pgraft_snapshot_file_finish(PgraftIo *io, const char *directory,
							PgraftSnapshotFile *file, PgraftError *error)
{
	char		from[PGRAFT_PATH_BYTES];
	char		to[PGRAFT_PATH_BYTES];
	char		name[PGRAFT_NAME_BYTES];
	unsigned char header[PGRAFT_SNAPSHOT_HEADER_BYTES];
	uint32		table_crc = 0;
	PgraftErrorCode code;

	pgraft_path(from, directory, file->temporary);
	pgraft_snapshot_name(name, file->index, file->term);
	pgraft_path(to, directory, name);
	if (file->fill > 0)
	{
		code = flush_block(io, file, error);
		if (code != PGRAFT_OK)
			return code;
	}
	code = write_table(io, file, from, &table_crc, error);
	if (code != PGRAFT_OK)
		return code;

	/* with its padding: the file must reach up to where data begins */
	code = pgraft_write_at(io, file->fd, from, file->config,
						   PGRAFT_ALIGN8(file->config_length),
						   PGRAFT_SNAPSHOT_HEADER_BYTES, error);
	if (code != PGRAFT_OK)
		return code;
	encode_header(header, file, table_crc);
	code = pgraft_write_at(io, file->fd, from, header, sizeof(header), 0, error);
	if (code != PGRAFT_OK)
		return code;
	if (io->fsync(io, file->fd) < 0)
		return pgraft_flush_error(error, "fsync file", from);
	if (io->rename(io, from, to) < 0)
		return pgraft_io_error(error, "rename file", from);
	return pgraft_sync_directory(io, directory, error);
}

void
pgraft_snapshot_file_free(PgraftIo *io, PgraftSnapshotFile *file)
{
	if (file->fd >= 0)
		io->close(io, file->fd);
	file->fd = -1;
	free(file->config);
	free(file->block);
	free(file->table);
	file->config = NULL;
	file->block = NULL;
	file->table = NULL;
	file->table_allocated = 0;
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

/* Takes lengths over from the header; returns what is wrong with it, or NULL. */
static const char *
decode_header(PgraftSnapshotReader *reader, const unsigned char *buffer, off_t size)
{
	uint32		config_length = pgraft_get32(buffer + 12);
	raft_u64	table_offset;

	if (memcmp(buffer, snapshot_magic, sizeof(snapshot_magic)) != 0)
		return "snapshot header has a wrong magic number";
	if (pgraft_get32(buffer + 8) != PGRAFT_FORMAT_VERSION)
		return "format version is not supported";
	if (config_length > RAFT_CONFIG_MAX_BYTES ||
		data_offset(config_length) > (size_t) size)
		return "snapshot header has an impossible length";
	reader->length = pgraft_get64(buffer + 40);
	reader->data_offset = pgraft_get64(buffer + 56);
	reader->n_blocks = pgraft_get32(buffer + 76);
	table_offset = pgraft_get64(buffer + 64);
	if (reader->data_offset != data_offset(config_length) ||
		reader->length > (raft_u64) size ||
		pgraft_get32(buffer + 72) != PGRAFT_SNAPSHOT_BLOCK_BYTES ||
		reader->n_blocks != (reader->length + PGRAFT_SNAPSHOT_BLOCK_BYTES - 1) /
		PGRAFT_SNAPSHOT_BLOCK_BYTES ||
		table_offset != reader->data_offset + PGRAFT_ALIGN8(reader->length) ||
		table_offset + 4 * reader->n_blocks > (raft_u64) size)
		return "snapshot header has an impossible length";
	if (pgraft_get64(buffer + 16) != reader->index ||
		pgraft_get64(buffer + 24) != reader->term)
		return "snapshot header differs from the file name";
	return NULL;
}

static PgraftErrorCode
read_table(PgraftIo *io, PgraftSnapshotReader *reader, const char *path,
		   raft_u64 offset, uint32 table_crc, PgraftError *error)
{
	size_t		bytes = reader->n_blocks * 4;
	unsigned char *raw = malloc(bytes + 1);
	PgraftErrorCode code;
	size_t		i;

	reader->table = malloc(reader->n_blocks * sizeof(uint32) + 1);
	if (raw == NULL || reader->table == NULL)
	{
		free(raw);
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	code = pgraft_read_at(io, reader->fd, path, raw, bytes, (off_t) offset, error);
	if (code == PGRAFT_OK && pgraft_crc32c(raw, bytes) != table_crc)
		code = pgraft_corrupt(error, path, offset,
							  "snapshot block table checksum does not match");
	if (code == PGRAFT_OK)
		for (i = 0; i < reader->n_blocks; i++)
			reader->table[i] = pgraft_get32(raw + i * 4);
	free(raw);
	return code;
}

/*
 * Opens the snapshot (reader->index, reader->term), checks its header,
 * configuration and block table, fills reader->meta.
 */
PgraftErrorCode
pgraft_snapshot_reader_open(PgraftIo *io, const char *directory,
							PgraftSnapshotReader *reader, PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	unsigned char buffer[PGRAFT_SNAPSHOT_HEADER_BYTES];
	unsigned char *config = NULL;
	size_t		config_length;
	const char *reason;
	off_t		size = 0;
	pg_crc32c	crc;
	PgraftErrorCode code;

	pgraft_snapshot_name(name, reader->index, reader->term);
	pgraft_path(path, directory, name);
	reader->fd = io->open(io, path, O_RDONLY);
	if (reader->fd < 0)
		return pgraft_io_error(error, "open file", path);
	if (io->size(io, reader->fd, &size) < 0)
		return pgraft_io_error(error, "stat file", path);
	code = pgraft_read_at(io, reader->fd, path, buffer, sizeof(buffer), 0, error);
	if (code != PGRAFT_OK)
		return code;
	reason = decode_header(reader, buffer, size);
	if (reason != NULL)
		return pgraft_corrupt(error, path, 0, reason);

	config_length = pgraft_get32(buffer + 12);
	config = malloc(config_length + 1);
	reader->meta = calloc(1, sizeof(*reader->meta));
	if (config == NULL || reader->meta == NULL)
	{
		free(config);
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	code = pgraft_read_at(io, reader->fd, path, config, config_length,
						  PGRAFT_SNAPSHOT_HEADER_BYTES, error);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, buffer, 84);
	COMP_CRC32C(crc, config, config_length);
	FIN_CRC32C(crc);
	if (code == PGRAFT_OK && crc != pgraft_get32(buffer + 84))
		code = pgraft_corrupt(error, path, 0, "snapshot header checksum does not match");
	if (code == PGRAFT_OK &&
		raft_config_decode(&reader->meta->config, config, config_length) != RAFT_OK)
		code = pgraft_corrupt(error, path, PGRAFT_SNAPSHOT_HEADER_BYTES,
							  "configuration cannot be decoded");
	free(config);
	if (code != PGRAFT_OK)
		return code;
	reader->meta->index = reader->index;
	reader->meta->term = reader->term;
	reader->meta->config.index = pgraft_get64(buffer + 32);
	return read_table(io, reader, path, pgraft_get64(buffer + 64),
					  pgraft_get32(buffer + 80), error);
}

/* Keeps index and term, so that the reader may be opened again. */
void
pgraft_snapshot_reader_close(PgraftIo *io, PgraftSnapshotReader *reader)
{
	if (reader->fd >= 0)
		io->close(io, reader->fd);
	reader->fd = -1;
	free(reader->meta);
	free(reader->table);
	free(reader->buffer);
	reader->meta = NULL;
	reader->table = NULL;
	reader->buffer = NULL;
	reader->buffer_allocated = 0;
}

/* Reads all data of an open reader against the block table. */
PgraftErrorCode
pgraft_snapshot_verify(PgraftIo *io, const char *directory,
					   PgraftSnapshotReader *reader, PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	unsigned char *block = malloc(PGRAFT_SNAPSHOT_BLOCK_BYTES);
	PgraftErrorCode code = PGRAFT_OK;
	size_t		i;

	if (block == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	pgraft_snapshot_name(name, reader->index, reader->term);
	pgraft_path(path, directory, name);
	for (i = 0; code == PGRAFT_OK && i < reader->n_blocks; i++)
	{
		raft_u64	offset = i * PGRAFT_SNAPSHOT_BLOCK_BYTES;
		size_t		n = Min(reader->length - offset, PGRAFT_SNAPSHOT_BLOCK_BYTES);

		code = pgraft_read_at(io, reader->fd, path, block, n,
							  (off_t) (reader->data_offset + offset), error);
		if (code == PGRAFT_OK && pgraft_crc32c(block, n) != reader->table[i])
			code = pgraft_corrupt(error, path, reader->data_offset + offset,
								  "snapshot block checksum does not match");
	}
	free(block);
	return code;
}
