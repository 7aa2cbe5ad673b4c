/*-------------------------------------------------------------------------
 *
 * removed.c
 *	  What is left of memberships that have ended.
 *
 * A member that was removed and added again moves its old directory aside
 * (pgraft_node_retire), under the name
 *
 *		<directory>.removed-<incarnation>-<member uid, 16 hexadecimal digits>
 *
 * Nothing reads such a directory again; it is there for people, who may want to
 * see what the member knew.  For that the latest one is enough: the others are
 * removed when the member has opened the log of a later membership.  Directories
 * that do not have such a name, or are of the present membership or a later one,
 * are none of our business.
 *
 * A crash in the middle leaves part of a directory, which the next start removes.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/removed.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"

#include "pgraft/worker.h"

#define INFIX ".removed-"
#define UID_DIGITS 16

static bool ended_membership(const char *name, const char *base, raft_u64 *incarnation);
static void remove_one(const char *parent, const char *name);

void
pgraft_remove_old_memberships(PgraftNode *node)
{
	char	   *parent = pstrdup(node->directory);
	const char *base = last_dir_separator(node->directory);
	char	   *latest = NULL;
	raft_u64	latest_incarnation = 0;
	struct dirent *entry;
	DIR		   *directory;

	base = base != NULL ? base + 1 : node->directory;
	get_parent_directory(parent);
	directory = AllocateDir(parent);
	while ((entry = ReadDirExtended(directory, parent, LOG)) != NULL)
	{
		raft_u64	incarnation;
		char	   *name;

		if (!ended_membership(entry->d_name, base, &incarnation) ||
			incarnation >= node->identity.incarnation)
			continue;
		name = pstrdup(entry->d_name);
		if (latest == NULL || incarnation >= latest_incarnation)
		{
			if (latest != NULL)
				remove_one(parent, latest);
			latest = name;
			latest_incarnation = incarnation;
		}
		else
			remove_one(parent, name);
	}
	if (directory != NULL)
		FreeDir(directory);
}

static bool
ended_membership(const char *name, const char *base, raft_u64 *incarnation)
{
	size_t		length = strlen(base);
	char	   *end;

	if (strncmp(name, base, length) != 0 ||
		strncmp(name + length, INFIX, strlen(INFIX)) != 0)
		return false;
	name += length + strlen(INFIX);
	if (*name < '0' || *name > '9')
		return false;
	errno = 0;
	*incarnation = strtoul(name, &end, 10);
	return errno == 0 && *end == '-' && strlen(end + 1) == UID_DIGITS &&
		strspn(end + 1, "0123456789abcdef") == UID_DIGITS;
}

/* rmtree() says itself what it cannot remove; the next start tries again. */
static void
remove_one(const char *parent, const char *name)
{
	char	   *path = psprintf("%s/%s", parent, name);

	if (rmtree(path, true))
		ereport(LOG,
				(errmsg("pgraft removed the state of an ended membership in \"%s\"", path),
				 errdetail("The state of the latest one is kept.")));
	pfree(path);
}
