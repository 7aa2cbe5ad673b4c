/*-------------------------------------------------------------------------
 *
 * image.h
 *	  Storage directories for the fuzz targets: real ones to begin with, edits
 *	  decided by an input, and checksums made right again afterwards.
 *
 * Without the last part hardly an edit would come past the first CRC.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_FUZZ_IMAGE_H
#define PGRAFT_FUZZ_IMAGE_H

#include "input.h"
#include "storage_fixture.h"

#define IMAGE_MAX_FILES 24
#define IMAGE_NAME_BYTES 64
#define IMAGE_MAX_FILE_BYTES (256 * 1024)

typedef struct ImageFile
{
	char		name[IMAGE_NAME_BYTES];
	unsigned char *data;
	size_t		length;
} ImageFile;

typedef struct Image
{
	ImageFile	files[IMAGE_MAX_FILES];
	int			n;
} Image;

typedef enum ImageSeal
{
	SEAL_NOTHING = 0,
	SEAL_CHECKSUMS,				/* CRCs and the chain */
	SEAL_NUMBERS,				/* and numbers, salts, counts of batches */
	SEAL_HEADERS,				/* and the next segment's header */
	N_SEALS
} ImageSeal;

/* How many directories there are to choose from, and one of them. */
extern int	image_bases(void);
extern FaultyDisk *image_base(int number);

extern void image_load(Image *image, FaultyDisk *disk);
extern void image_free(Image *image);

/* A disk like `base` with exactly these files in its directory. */
extern FaultyDisk *image_store(const Image *image, const FaultyDisk *base);

/* Does the directory hold just this, but for the lock file? */
extern bool image_same(const Image *image, FaultyDisk *disk);

extern void image_edit(Image *image, Input *input);
extern void image_seal(Image *image, ImageSeal seal);
extern void image_seal_snapshot(ImageFile *file);
extern ImageFile *image_find(Image *image, const char *name);
extern void image_resize(ImageFile *file, size_t length);
extern void image_patch(ImageFile *file, Input *input);

#endif							/* PGRAFT_FUZZ_IMAGE_H */
