/** The names of options here, the names that other queues have for them, and the rules for names of tasks and queues. */

/** The names of tasks, queues and schedules. */
export const namePattern = /^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$/;
export const nameExpected = 'a name of 1 to 128 letters, digits and _ . : / -, starting with a letter or digit';

export const limitKeys = ['unique', 'concurrency', 'rate'];
export const jobKeys = ['queue', 'priority', 'retry', 'timeout', 'expires', 'tags', 'retention', 'backend'];

/** The options of `using`. */
export const usingKeys: readonly string[] = [...jobKeys, 'runAfter', 'id', 'unique', 'metadata'];

/**
 * Names that other queues and schedulers use for our options, in lower case without `_` and `-`, and the names here; the first one that the
 * place accepts is suggested. Names that end in `)` refer to another call.
 */
const foreignWords: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  (
    [
      ['attempts retries maxretries maxattempts retrylimit retrycount retry maxretry tries', 'maxAttempts', 'retry.maxAttempts'],
      ['backoff retrydelay retrybackoff backofftype retryin', 'backoff', 'retry.backoff'],
      [
        'delay runat runin eta countdown startafter scheduledat scheduledfor scheduleat scheduledin availableat wait waituntil',
        'runAfter',
        'at',
      ],
      ['repeat cron every interval recurring schedule', 'every', 'tasks.schedule()'],
      ['pattern crontime cronexpression cronpattern expression', 'cron', 'tasks.schedule()'],
      ['tz timezone zone', 'timezone', 'tasks.schedule()'],
      ['handler handle process processor perform fn func function callback execute work job task worker', 'run', 'task'],
      ['jobid uuid key idempotencykey deduplicationid singletonkey uniquekey taskid', 'id'],
      ['id', 'id'],
      ['ttl expirein expiresin expireat expiresat expiry', 'expires'],
      ['start startdate starts from begin', 'startAt'],
      ['end enddate ends until stop', 'endAt'],
      ['limit times count', 'maxRuns', 'limit'],
      ['data payload args params body', 'input', 'enqueue(input)'],
      ['schema validate validator parse', 'input'],
      ['queuename', 'queue'],
      ['jobtimeout timeoutms maxruntime executiontimeout visibilitytimeout', 'timeout'],
      ['removeoncomplete removeonfail keepjobs keepfor retentiondays resultttl', 'retention', 'createTasks({ retention })'],
      ['store storage driver connection database db adapter backend', 'backend', 'store'],
      ['parallelism maxconcurrency threads prefetch poolsize', 'concurrency'],
      ['meta context extra', 'metadata'],
      ['labels label', 'tags'],
      ['excludequeues except ignore', 'exclude'],
      ['success complete completed succeeded', 'successful'],
    ] as const
  ).flatMap(([words, ...ours]) => words.split(' ').map((word) => [word, ours])),
);

/** A suggestion for an unknown option: our name for another queue's option, or the most similar name. */
export function meant(key: string, keys: readonly string[]): string | undefined {
  const ours = foreignWords[key.toLowerCase().replace(/[_-]/g, '')] ?? [];
  for (const own of ours) if (keys.includes(own.split('.')[0] as string) && own !== key) return own;
  const near = nearest(key, keys);
  if (near !== undefined) return near;
  const elsewhere = ours.find((own) => own.endsWith(')'));
  const isOf = (options: readonly string[]) => (own: string) => options.includes(own.split('.')[0] as string);
  const byDefault = keys.includes('defaults') ? ours.find(isOf(jobKeys)) : undefined;
  if (byDefault !== undefined) return `defaults.${byDefault}`;
  const using = ours.find(isOf(usingKeys));
  return elsewhere ?? (using === undefined ? undefined : `using({ ${using.replace(/\.(.*)/, ': { $1 }')} })`);
}

/** The most similar name by edit distance, if one is similar enough. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.min(3, Math.floor(name.length / 3))) + 1;
  for (const candidate of names) {
    const distance = edits(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** The edit distance of two short texts: insertions, deletions, substitutions and swaps of neighbours (restricted Damerau). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j] as number, (before[j - 2] ?? 0) + 1);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}

export function knownQueues(known: readonly string[]): string {
  return known.length === 1 ? `the queue ${known[0]}` : `one of the queues ${known.join(', ')}`;
}
