/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Log lines of the network layer.
 *
 * What a stranger can cause is throttled: one line per remote address and
 * reason in a minute, and not more than MAX_LINES_PER_MINUTE in all,
 * whatever the number of addresses.  What was left out is counted in the next
 * line.  Texts that come from the other side are harmless by the time they get
 * here: the decoders and tls.c let no control character through.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/report.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "net_internal.h"

#define REPORT_INTERVAL_MS 60000
#define MAX_LINES_PER_MINUTE 60
#define MAX_REMEMBERED 64

typedef struct Remembered
{
	bool		used;
	char		remote[REMOTE_TEXT_SIZE];
	PgraftEnd	why;
	char		reason[REASON_SIZE];	/* "" = any */
	raft_time	logged_at;
	unsigned long left_out;
} Remembered;

struct PgraftReport
{
	Remembered	remembered[MAX_REMEMBERED];
	raft_time	minute_began;
	int			lines;			/* in this minute */
	unsigned long left_out;		/* because of the limit of lines */
};

static void report_throttled(PgraftNet *net, const char *remote, PgraftEnd why,
							 const char *reason, const char *sentence);
static Remembered *find(PgraftReport *report, const char *remote, PgraftEnd why,
						const char *reason);
static bool may_log(PgraftReport *report, raft_time now);

PgraftReport *
pgraft_report_create(void)
{
	return calloc(1, sizeof(PgraftReport));
}

void
pgraft_report_destroy(PgraftReport *report)
{
	free(report);
}

/* Somebody was not let in. */
void
pgraft_report_refusal(PgraftNet *net, const char *remote, PgraftEnd why, const char *reason)
{
	char		sentence[REASON_SIZE + 100];
	bool		reason_counts = why == END_TLS || why == END_NAME || why == END_GREETING;

	/*
	 * These reasons are few texts or come from somebody with a certificate.
	 * The others have numbers in them that a stranger can choose.
	 */
	snprintf(sentence, sizeof(sentence), "connection from %s refused: %s", remote, reason);
	report_throttled(net, remote, why, reason_counts ? reason : "", sentence);
}

/* Something else that others cause; key: what must be the same to be repetition. */
void
pgraft_report_problem(PgraftNet *net, const char *key, PgraftEnd why, const char *sentence)
{
	report_throttled(net, key, why, "", sentence);
}

static void
report_throttled(PgraftNet *net, const char *remote, PgraftEnd why, const char *reason,
				 const char *sentence)
{
	PgraftReport *report = net->report;
	Remembered *entry = find(report, remote, why, reason);
	unsigned long left_out;

	if (entry->used && net->now - entry->logged_at < REPORT_INTERVAL_MS)
	{
		entry->left_out++;
		return;
	}
	if (!may_log(report, net->now))
	{
		report->left_out++;
		return;
	}
	left_out = (entry->used ? entry->left_out : 0) + report->left_out;
	report->left_out = 0;
	entry->used = true;
	strlcpy(entry->remote, remote, sizeof(entry->remote));
	strlcpy(entry->reason, reason, sizeof(entry->reason));
	entry->why = why;
	entry->logged_at = net->now;
	entry->left_out = 0;
	if (left_out > 0)
		pgraft_net_log(net, PGRAFT_NET_WARNING, "%s (%lu similar messages were left out)",
					   sentence, left_out);
	else
		pgraft_net_log(net, PGRAFT_NET_WARNING, "%s", sentence);
}

void
pgraft_net_log(PgraftNet *net, PgraftNetLogLevel level, const char *format,...)
{
	char		message[512];
	va_list		args;

	if (net->callbacks.log == NULL)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	net->callbacks.log(net->callbacks.context, level, message);
}

/* The entry of this remote and reason, else the one to overwrite. */
static Remembered *
find(PgraftReport *report, const char *remote, PgraftEnd why, const char *reason)
{
	Remembered *oldest = &report->remembered[0];
	int			i;

	for (i = 0; i < MAX_REMEMBERED; i++)
	{
		Remembered *entry = &report->remembered[i];

		if (entry->used && entry->why == why && strcmp(entry->remote, remote) == 0 &&
			strcmp(entry->reason, reason) == 0)
			return entry;
		if (oldest->used && (!entry->used || entry->logged_at < oldest->logged_at))
			oldest = entry;
	}
	report->left_out += oldest->used ? oldest->left_out : 0;
	oldest->used = false;
	oldest->left_out = 0;
	return oldest;
}

static bool
may_log(PgraftReport *report, raft_time now)
{
	if (now - report->minute_began >= REPORT_INTERVAL_MS)
	{
		report->minute_began = now;
		report->lines = 0;
	}
	return report->lines++ < MAX_LINES_PER_MINUTE;
}
