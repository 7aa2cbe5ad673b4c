/*-------------------------------------------------------------------------
 *
 * bytes.h
 *	  Little-endian integers in byte buffers, and the 64-bit digest behind the
 *	  state hash.
 *
 * The digest must be the same on every member, whatever its machine and its
 * PostgreSQL release, and is therefore the project's own.  It tells states
 * apart that differ by accident; it is no defence against somebody who looks
 * for collisions.
 *
 * Included after postgres.h or postgres_fe.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_BYTES_H
#define PGRAFT_BYTES_H

static inline void
pgraft_put_u32(unsigned char *buffer, uint32 value)
{
	int			i;

	for (i = 0; i < 4; i++)
		buffer[i] = (unsigned char) (value >> (8 * i));
}

static inline void
pgraft_put_u64(unsigned char *buffer, uint64 value)
{
	int			i;

	for (i = 0; i < 8; i++)
		buffer[i] = (unsigned char) (value >> (8 * i));
}

static inline uint32
pgraft_get_u32(const unsigned char *buffer)
{
	uint32		value = 0;
	int			i;

	for (i = 3; i >= 0; i--)
		value = (value << 8) | buffer[i];
	return value;
}

static inline uint64
pgraft_get_u64(const unsigned char *buffer)
{
	uint64		value = 0;
	int			i;

	for (i = 7; i >= 0; i--)
		value = (value << 8) | buffer[i];
	return value;
}

/* Spreads every bit of the input over all bits of the output; a bijection. */
static inline uint64
pgraft_digest_spread(uint64 value)
{
	value ^= value >> 32;
	value *= UINT64CONST(0xD6E8FEB86659FD93);
	value ^= value >> 29;
	value *= UINT64CONST(0xA0761D6478BD642F);
	value ^= value >> 32;
	return value;
}

/* Digests are chained: start with any number, put in one thing after another. */
static inline uint64
pgraft_digest_u64(uint64 digest, uint64 value)
{
	return pgraft_digest_spread((digest * UINT64CONST(0x9E3779B97F4A7C15)) ^
								pgraft_digest_spread(value + 1));
}

/* The length goes in too: ("ab", "c") differs from ("a", "bc"). */
static inline uint64
pgraft_digest_bytes(uint64 digest, const void *data, size_t length)
{
	const unsigned char *bytes = (const unsigned char *) data;
	unsigned char rest[8] = {0};
	size_t		i;

	digest = pgraft_digest_u64(digest, (uint64) length);
	for (i = 0; i + 8 <= length; i += 8)
		digest = pgraft_digest_u64(digest, pgraft_get_u64(bytes + i));
	if (i < length)
	{
		memcpy(rest, bytes + i, length - i);
		digest = pgraft_digest_u64(digest, pgraft_get_u64(rest));
	}
	return digest;
}

#endif							/* PGRAFT_BYTES_H */
