/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  A main() for fuzz targets where there is no libFuzzer: runs the inputs
 *	  of a corpus, once each.
 *
 *		fuzz_<name> FILE|DIRECTORY ...		replay, one TAP line
 *		fuzz_<name> --seeds DIRECTORY		write a first corpus
 *
 * An input that fails ends the program with abort().
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/replay.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

#include "input.h"

#undef printf
#undef fprintf
#undef snprintf

#define MAX_INPUT_BYTES (1024 * 1024)

static const char *current;		/* what abort() interrupted */

static void
say_which(int signal_number)
{
	(void) signal_number;
	fprintf(stderr, "input \"%s\" failed\n", current);
	signal(SIGABRT, SIG_DFL);
	abort();
}

static unsigned long
replay_file(const char *path)
{
	unsigned char *data = fuzz_allocate(MAX_INPUT_BYTES);
	unsigned char *block;
	size_t		length;
	FILE	   *stream = fopen(path, "rb");

	if (stream == NULL)
	{
		fprintf(stderr, "could not read \"%s\"\n", path);
		exit(1);
	}
	length = fread(data, 1, MAX_INPUT_BYTES, stream);
	fclose(stream);
	current = path;

	/* a block of exactly this size: a sanitizer sees who reads on */
	block = fuzz_allocate(length);
	memcpy(block, data, length);
	(void) LLVMFuzzerTestOneInput(block, length);
	free(block);
	free(data);
	return 1;
}

static unsigned long
replay(const char *path)
{
	struct stat status;
	struct dirent *entry;
	DIR		   *directory;
	unsigned long n = 0;

	if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
		return replay_file(path);
	directory = opendir(path);
	while (directory != NULL && (entry = readdir(directory)) != NULL)
	{
		char		file[2048];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		n += replay_file(file);
	}
	if (directory != NULL)
		closedir(directory);
	return n;
}

int
main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	unsigned long n = 0;
	int			i;

	if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
	{
		(void) mkdir(argv[2], 0777);
		fuzz_write_seeds(argv[2]);
		return 0;
	}
	signal(SIGABRT, say_which);
	for (i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%sok 1 - %s: %lu inputs replayed\n1..1\n", n > 0 ? "" : "not ",
		   slash != NULL ? slash + 1 : argv[0], n);
	return n > 0 ? 0 : 1;
}
