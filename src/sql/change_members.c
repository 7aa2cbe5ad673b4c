/*-------------------------------------------------------------------------
 *
 * change_members.c
 *	  pgraft_change_members(): several changes of membership as one.
 *
 * Called in backends.  The list is read and checked here, field by field, so
 * that a mistake costs no round trip; what depends on the members that there
 * are is checked by the leader (src/worker/change_members.c).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/change_members.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "pgraft/compat.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_change_members);

/* The fields of one change as they are written; NULL = absent. */
typedef struct ChangeFields
{
	char	   *action;
	char	   *node_id;
	char	   *address;
	char	   *port;
	char	   *role;
	char	   *name;
} ChangeFields;

static const struct
{
	const char *name;
	bool		number;
	size_t		offset;
}			known_fields[] = {
	{"action", false, offsetof(ChangeFields, action)},
	{"node_id", true, offsetof(ChangeFields, node_id)},
	{"address", false, offsetof(ChangeFields, address)},
	{"port", true, offsetof(ChangeFields, port)},
	{"role", false, offsetof(ChangeFields, role)},
	{"name", false, offsetof(ChangeFields, name)}
};

static int	read_changes(Jsonb *list, struct raft_change *changes);
static void read_fields(JsonbContainer *object, ChangeFields *fields);
static void keep_field(ChangeFields *fields, const char *name, const JsonbValue *value);
static void fill_change(const ChangeFields *fields, struct raft_change *change);
static int	action_type(const char *action);
static void allow_field(const ChangeFields *fields, const char *name, const char *value,
						bool required, bool allowed);
static long whole_number(const char *name, const char *value, long max, const char *hint);
static void refuse_contradiction(const struct raft_change *before,
								 const struct raft_change *change);
static void name_the_change(void *number);

#define EXAMPLE_HINT \
	errhint("A change looks like {\"action\": \"add\", \"node_id\": 4, \"address\": \"10.0.0.4\", \"port\": 7004}.")

Datum
pgraft_sql_change_members(PG_FUNCTION_ARGS)
{
	struct raft_change *changes;
	PgraftCall	call;
	int			n;

	pgraft_require_preloaded();
	pgraft_refuse_parallel();
	pgraft_argument_required(fcinfo, 0, "changes");
	changes = palloc0(sizeof(struct raft_change) * RAFT_MAX_MEMBERS);
	n = read_changes(PG_GETARG_JSONB_P(0), changes);

	memset(&call, 0, sizeof(call));
	call.kind = PGRAFT_REQUEST_CHANGE_MEMBERS;
	call.data = changes;
	call.length = sizeof(struct raft_change) * (size_t) n;
	pgraft_call(&call);
	PG_RETURN_BOOL(true);
}

static int
read_changes(Jsonb *list, struct raft_change *changes)
{
	ErrorContextCallback context;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			n = 0;
	int			i;

	if (!JB_ROOT_IS_ARRAY(list) || JB_ROOT_IS_SCALAR(list) || JB_ROOT_COUNT(list) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be an array of changes", "changes"),
				 EXAMPLE_HINT));
	if (JB_ROOT_COUNT(list) > RAFT_MAX_MEMBERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has too many changes", "changes"),
				 errdetail("It has %d; at most %d are allowed.", (int) JB_ROOT_COUNT(list),
						   RAFT_MAX_MEMBERS),
				 errhint("Make them one after the other.")));

	context.callback = name_the_change;
	context.arg = &n;
	context.previous = error_context_stack;
	error_context_stack = &context;
	iterator = JsonbIteratorInit(&list->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		ChangeFields fields;

		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a change must be an object"),
					 EXAMPLE_HINT));
		memset(&fields, 0, sizeof(fields));
		read_fields(value.val.binary.data, &fields);
		fill_change(&fields, &changes[n]);
		for (i = 0; i < n; i++)
			refuse_contradiction(&changes[i], &changes[n]);
		n++;
	}
	error_context_stack = context.previous;
	return n;
}

static void
refuse_contradiction(const struct raft_change *before, const struct raft_change *change)
{
	if (before->member.id == change->member.id)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("member %u is named by more than one change", change->member.id),
				 errhint("Say of each member once what becomes of it.")));
	if (before->type == RAFT_CHANGE_ADD && change->type == RAFT_CHANGE_ADD &&
		before->member.port == change->member.port &&
		strcmp(before->member.address, change->member.address) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("members %u and %u cannot have the same address \"%s\" and port %u",
						before->member.id, change->member.id, change->member.address,
						change->member.port),
				 errhint("Each member listens at an address and port of its own.")));
}

static void
name_the_change(void *number)
{
	errcontext("change %d of argument \"%s\"", *(int *) number + 1, "changes");
}

static void
read_fields(JsonbContainer *object, ChangeFields *fields)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			keep_field(fields, name, &value);
	}
}

static void
keep_field(ChangeFields *fields, const char *name, const JsonbValue *value)
{
	char	   *text = NULL;
	size_t		i;

	for (i = 0; i < lengthof(known_fields); i++)
		if (strcmp(name, known_fields[i].name) == 0)
			break;
	if (i == lengthof(known_fields))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized field: \"%s\"", pnstrdup(name, RAFT_NAME_SIZE)),
				 errhint("Valid fields are \"action\", \"node_id\", \"address\", \"port\", \"role\" and \"name\".")));
	if (known_fields[i].number && value->type == jbvNumeric)
		text = DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	else if (!known_fields[i].number && value->type == jbvString)
		text = pnstrdup(value->val.string.val, value->val.string.len);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 known_fields[i].number ?
				 errmsg("field \"%s\" must be a number", name) :
				 errmsg("field \"%s\" must be a string", name),
				 errhint("Leave a field out to get its default.")));
	*(char **) ((char *) fields + known_fields[i].offset) = text;
}

static void
fill_change(const ChangeFields *fields, struct raft_change *change)
{
	struct raft_member *member = &change->member;
	bool		adds;
	bool		promotes;

	allow_field(fields, "action", fields->action, true, true);
	change->type = action_type(fields->action);
	adds = (change->type == RAFT_CHANGE_ADD);
	promotes = (change->type == RAFT_CHANGE_PROMOTE);
	allow_field(fields, "node_id", fields->node_id, true, true);
	allow_field(fields, "address", fields->address, adds, adds);
	allow_field(fields, "port", fields->port, adds, adds);
	allow_field(fields, "name", fields->name, false, adds);
	allow_field(fields, "role", fields->role, false, adds || promotes);

	member->id = (raft_id) whole_number("node_id", fields->node_id, PG_INT32_MAX,
										"Use the value of \"pgraft.node_id\" on that server.");
	if (adds)
	{
		pgraft_check_plain_text(fields->address, "address", RAFT_ADDRESS_SIZE);
		strlcpy(member->address, fields->address, RAFT_ADDRESS_SIZE);
		member->port = (unsigned int) whole_number("port", fields->port, 65535,
												   "Use the value of \"pgraft.port\" on that server.");
	}
	if (fields->name != NULL)
	{
		pgraft_check_plain_text(fields->name, "name", RAFT_NAME_SIZE);
		strlcpy(member->name, fields->name, RAFT_NAME_SIZE);
	}
	if (adds || promotes)
		member->role = (fields->role != NULL) ? pgraft_role_of_text(fields->role) : RAFT_VOTER;
	if (promotes && member->role == RAFT_LEARNER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a member cannot be promoted to a learner"),
				 errhint("Use the role \"voter\" or \"witness\", or the action \"demote\".")));
}

static int
action_type(const char *action)
{
	if (strcmp(action, "add") == 0)
		return RAFT_CHANGE_ADD;
	if (strcmp(action, "remove") == 0)
		return RAFT_CHANGE_REMOVE;
	if (strcmp(action, "promote") == 0)
		return RAFT_CHANGE_PROMOTE;
	if (strcmp(action, "demote") == 0)
		return RAFT_CHANGE_DEMOTE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized action: \"%s\"", pnstrdup(action, RAFT_NAME_SIZE)),
			 errhint("Valid actions are \"add\", \"remove\", \"promote\" and \"demote\".")));
	return 0;					/* keeps compilers quiet */
}

static void
allow_field(const ChangeFields *fields, const char *name, const char *value,
			bool required, bool allowed)
{
	if (value == NULL && required)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("field \"%s\" is missing", name),
				 EXAMPLE_HINT));
	if (value != NULL && !allowed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("field \"%s\" has no meaning for the action \"%s\"", name,
						fields->action),
				 errhint("Address and name of a member are changed by pgraft_update_node().")));
}

/* 1 to max */
static long
whole_number(const char *name, const char *value, long max, const char *hint)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(value, &end, 10);
	if (errno != 0 || *end != '\0' || number < 1 || number > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value of field \"%s\": %s", name, pnstrdup(value, 32)),
				 errdetail("It must be a whole number between 1 and %ld.", max),
				 errhint("%s", hint)));
	return number;
}
