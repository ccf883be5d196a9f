/** The outbox: the mails of an application, derived from its jobs and the blobs stored with them. */
import type { TaskResult, Tasks } from 'escapement';
import type { SendNow } from './deliver.ts';
import { mailTag } from './options.ts';
import { bodyBlob, decodeBlob, type MailBody, type MailRecord, recordBlob } from './record.ts';
import type { MailState, Outbox, OutboxEntry, OutboxMail } from './seam.ts';
import { type StoredInput, storedBlobs } from './stored.ts';

/** @param names the tasks that send mail */
export function createOutbox(tasks: Tasks, names: ReadonlySet<string>): Outbox {
  return {
    async list({ limit = 100 } = {}) {
      const { items } = await tasks.jobs.list({ tag: mailTag, limit });
      return Promise.all(items.filter(({ task }) => names.has(task)).map(entryOf));
    },
    async get(job) {
      const result = await tasks.getResult(job);
      const [entry, record, body] = await Promise.all([
        entryOf(result),
        result.blob(recordBlob).then((bytes) => decodeBlob<MailRecord>(bytes)),
        result.blob(bodyBlob).then((bytes) => decodeBlob<MailBody>(bytes)),
      ]);
      return {
        ...entry,
        from: record?.from ?? '',
        headers: body?.headers ?? null,
        text: body?.text ?? null,
        html: body?.html ?? null,
        attachments: body?.attachments ?? [],
      } satisfies OutboxMail;
    },
    async send(job) {
      const result = await tasks.getResult(job);
      if (result.status === 'scheduled' || result.status === 'ready') {
        await result.edit({ runAfter: 0 });
        return;
      }
      const record = decodeBlob<MailRecord>(await result.blob(recordBlob));
      if (record?.state !== 'held' || !result.isFinished) {
        await result.retry();
        return;
      }
      // A copy that may be delivered. To its recipients it is the same mail.
      const mail: SendNow = { deliver: true, messageId: record.messageId };
      const copy = tasks.get(result.task).using({ queue: result.queue, tags: result.tags, metadata: { ...result.metadata, mail } });
      const blobs = await storedBlobs(result);
      await copy.enqueue(result.input, blobs ? { blobs } : {});
      await result.delete();
    },
    async drop(job) {
      const result = await tasks.getResult(job);
      if (result.isFinished) await result.delete();
      else await result.cancel('dropped from the outbox');
    },
  };
}

async function entryOf(result: TaskResult): Promise<OutboxEntry> {
  const record = decodeBlob<MailRecord>(await result.blob(recordBlob));
  const { id: job, task, attempts } = result;
  const given = inputOf(result);
  const state = stateOf(result, record);
  const at = state === 'queued' || state === 'deferred' ? result.dueAt : (result.finishedAt ?? result.lastAttemptedAt ?? result.dueAt);
  const failure = result.errors.at(-1);
  return {
    job,
    task,
    state,
    at,
    to: record?.to ?? given?.to ?? [],
    subject: record?.subject ?? given?.subject ?? '',
    messageId: record?.messageId ?? null,
    attempts,
    accepted: record?.accepted ?? [],
    refused: [...(record?.refused ?? []), ...(record?.deferred ?? [])],
    note: record?.note ?? (state === 'dropped' ? result.reason : failure && state !== 'sent' ? failure.message : null),
  };
}

/** The input of a queued message, which contains its addresses and subject. */
function inputOf({ input }: TaskResult): StoredInput | undefined {
  const given = input as Partial<StoredInput> | null;
  return Array.isArray(given?.to) && typeof given.subject === 'string' ? (given as StoredInput) : undefined;
}

function stateOf({ status, attempts }: TaskResult, record: MailRecord | null): MailState {
  switch (status) {
    case 'successful':
      return record?.state === 'held' ? 'held' : 'sent';
    case 'failed':
      return 'refused';
    case 'cancelled':
      return 'dropped';
    case 'running':
      return 'sending';
    default:
      return attempts > 0 ? 'deferred' : 'queued';
  }
}
