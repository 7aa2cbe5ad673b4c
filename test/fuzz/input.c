/*-------------------------------------------------------------------------
 *
 * input.c
 *	  See input.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/input.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "input.h"

#undef fprintf
#undef snprintf

static raft_u64
take_number(Input *input, size_t bytes)
{
	raft_u64	value = 0;
	size_t		i;

	for (i = 0; i < bytes && input->left > 0; i++)
	{
		value |= (raft_u64) *input->data++ << (8 * i);
		input->left--;
	}
	return value;
}

raft_u64
input_draw(Input *input, raft_u64 below)
{
	if (below <= 1)
		return 0;
	return take_number(input, below <= 0x100 ? 1 : below <= 0x10000 ? 2 : 8) % below;
}

raft_u64
input_any(Input *input)
{
	return take_number(input, 8);
}

/* An input that has ended makes no more decisions: false. */
bool
input_one_in(Input *input, raft_u64 n)
{
	return input->left > 0 && input_draw(input, n) == n - 1;
}

raft_u64
input_near(Input *input, raft_u64 value)
{
	switch (input_draw(input, 8))
	{
		case 1:
			return value + 1 + input_draw(input, 16);
		case 2:
			return value - 1 - input_draw(input, 16);
		case 3:
			return input_draw(input, 256);
		case 4:
			return ~(raft_u64) 0 - input_draw(input, 4);
		case 5:
			return input_any(input);
		case 6:
			return ((raft_u64) 1 << input_draw(input, 64)) - input_draw(input, 3);
		default:
			return value;
	}
}

size_t
input_take(Input *input, size_t wanted, const uint8_t **bytes)
{
	size_t		n = Min(wanted, input->left);

	*bytes = input->data;
	input->data += n;
	input->left -= n;
	return n;
}

void
demand(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

void *
fuzz_allocate(size_t bytes)
{
	void	   *memory = calloc(1, bytes > 0 ? bytes : 1);

	demand(memory != NULL, "out of memory");
	return memory;
}

void
seed_write(const char *directory, const char *name, const void *data, size_t length)
{
	char		path[2048];
	FILE	   *stream;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	stream = fopen(path, "wb");
	if (stream == NULL || fwrite(data, 1, length, stream) != length ||
		fclose(stream) != 0)
	{
		fprintf(stderr, "could not write \"%s\"\n", path);
		exit(1);
	}
}
