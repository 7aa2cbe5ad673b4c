/*-------------------------------------------------------------------------
 *
 * input.h
 *	  What the fuzz targets share: taking decisions from the bytes of an input,
 *	  demanding that something holds, writing seeds of a corpus.
 *
 * A target is one test/fuzz/fuzz_<name>.c with the two functions below.  It is
 * linked either with libFuzzer ("make fuzz") or with replay.c ("make
 * fuzz-replay"), whose main() runs the inputs of test/fuzz/corpus/fuzz_<name>.
 *
 * Equal inputs do equal things: no clock, no address, no randomness.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_FUZZ_INPUT_H
#define PGRAFT_FUZZ_INPUT_H

#include "pgraft/raft.h"

/* what libFuzzer calls */
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* writes valid inputs to begin with */
extern void fuzz_write_seeds(const char *directory);

typedef struct Input
{
	const uint8_t *data;
	size_t		left;
} Input;

/* A number below `below`, from as few bytes as it needs; 0 at the end. */
extern raft_u64 input_draw(Input *input, raft_u64 below);

/* All 64 bits. */
extern raft_u64 input_any(Input *input);
extern bool input_one_in(Input *input, raft_u64 n);

/* A value like `value`: the same, a little more or less, small, or extreme. */
extern raft_u64 input_near(Input *input, raft_u64 value);

/* Up to `wanted` bytes; returns how many there were. */
extern size_t input_take(Input *input, size_t wanted, const uint8_t **bytes);

/* Aborts, which is what a fuzzer reports. */
extern void demand(bool condition, const char *what);

extern void *fuzz_allocate(size_t bytes);
extern void seed_write(const char *directory, const char *name,
					   const void *data, size_t length);

#endif							/* PGRAFT_FUZZ_INPUT_H */
