/**
 * Mailables: a mail as a task. The job stores the arguments; the worker builds the message and sends it. A mailable is an ordinary task
 * with everything that tasks have: a queue, retries, a delay, schedules, simulation.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import {
  type Cancel,
  type ConcurrencyOptions,
  ConfigError,
  exponential,
  InputError,
  type JobOptions,
  type RateOptions,
  type Snooze,
  type Task,
  type TaskContext,
  type TaskResult,
  type Tasks,
  type UniqueOptions,
  type UsingOptions,
} from 'escapement';
import { compose } from './compile.ts';
import { inline } from './content.ts';
import { bodyOf, type Delivery, deliver, idOf, type MailOutcome, nothingToSend } from './deliver.ts';
import type { MailMessage } from './message.ts';
import { isMailKey, jobOptions, type MailOptions, mailTag, readOptions, type Settings, withTag } from './options.ts';
import { createOutbox } from './outbox.ts';
import { type MailPreview, type Outbox, seamOf } from './seam.ts';
import { Sender } from './sender.ts';

type SchemaInput<Schema, Otherwise> = Schema extends StandardSchemaV1 ? StandardSchemaV1.InferInput<Schema> : Otherwise;
type BuildInput<Schema, Input> = Schema extends StandardSchemaV1 ? StandardSchemaV1.InferOutput<Schema> : Input;
type Built = MailMessage | Cancel | Snooze | null | undefined;

/** A mailable's definition. */
export interface MailableOptions<Input, Schema extends StandardSchemaV1 | undefined> extends JobOptions {
  /** Any Standard Schema. Without one, the input has the type of `build`'s first parameter. */
  input?: Schema;
  /**
   * Which mails count as the same, and what happens to a duplicate. Keys are computed from the input; without a schema, put `build` before
   * them.
   */
  unique?: UniqueOptions<BuildInput<Schema, Input>>;
  /** How many of these mails may be sent at a time. */
  concurrency?: ConcurrencyOptions<BuildInput<Schema, Input>>;
  /**
   * How many of these mails may be sent per period.
   * @example rate: { limit: 100, per: '1m', key: ({ email }) => domainOf(email) }
   */
  rate?: RateOptions<BuildInput<Schema, Input>>;
  /** Named inputs for previews. */
  examples?: Readonly<Record<string, NoInfer<SchemaInput<Schema, Input>>>>;
  /**
   * The name of its task, for a mail that used to be a task of yours.
   * @default the name of the mail application, a dot, and the mail's name
   */
  task?: string;
  /**
   * Builds the message, in the worker, on every attempt. Return `cancel(reason)` or nothing to send no mail, and `snooze(delay)` to be
   * called again later.
   */
  build(input: BuildInput<Schema, Input>, ctx: TaskContext<TaskResult>): Built | Promise<Built>;
}

/** A mail that can be sent. */
export interface Mailable<Input> {
  /** The name as defined, without the name of the mail application. */
  readonly name: string;
  /** The mail's task. */
  readonly task: Task<Input, MailOutcome>;
  readonly examples: Readonly<Record<string, Input>>;
  /** Enqueues the mail. @throws what `enqueue` throws */
  readonly send: Task<Input, MailOutcome>['enqueue'];
  /** Enqueues a mail for each input, either all or none. */
  readonly sendMany: Task<Input, MailOutcome>['enqueueMany'];
  /** The same mail with other options. @example await welcome.using({ runAfter: '3d' }).send({ userId }) */
  using(options: UsingOptions): Mailable<Input>;
  /**
   * Builds the mail immediately, without sending it.
   * @throws what `build` throws; InputError if it builds no mail
   */
  preview(input: Input): Promise<MailPreview>;
}

/** The mail of an application. */
export interface Mail {
  /**
   * Defines a mail: the task `mail.<name>`.
   * @throws ConfigError with all faults of the options
   */
  define<Input = void, Schema extends StandardSchemaV1 | undefined = undefined>(
    name: string,
    options: MailableOptions<Input, Schema>,
  ): Mailable<SchemaInput<Schema, Input>>;
  /** The mails of the application: those that wait, and the outcomes of the others. */
  readonly outbox: Outbox;
}

/** Receives the message that a call of `preview` has built. */
const previewing = new AsyncLocalStorage<{ preview?: MailPreview; none?: string }>();

/**
 * The mail of an application. Nothing is opened before the first mail leaves.
 * @throws ConfigError with all faults of the options
 * @example
 * const mail = createMail(tasks, { transport: process.env.SMTP_URL, from: 'Shop <shop@example.com>' });
 * const welcome = mail.define('welcome', { input: z.object({ userId: z.string() }), build: async ({ userId }) => ({ to, subject: 'Welcome', text }) });
 * await welcome.using({ runAfter: '3d' }).send({ userId: 'u1' });
 */
export function createMail(tasks: Tasks, options: MailOptions): Mail {
  const settings = readOptions('createMail', options);
  const delivery = deliveryOf(tasks, settings);
  const { seam } = delivery;
  return {
    define: (name, given) => define(tasks, delivery, name, given as never) as never,
    get outbox() {
      return seam.outbox as Outbox;
    },
  };
}

export function deliveryOf(tasks: Tasks, settings: Settings): Delivery {
  const seam = seamOf(tasks);
  seam.outbox ??= createOutbox(tasks, seam.tasks);
  return { settings, seam, sender: new Sender(tasks, settings.transport, () => seam.outlet?.kind === 'simulated') };
}

/** From one minute to four hours: a server that greylists is tried again soon, and one that is down is left alone. */
export const mailRetry: NonNullable<JobOptions['retry']> = { backoff: exponential({ initial: '1m', max: '4h' }) };

function define(
  tasks: Tasks,
  delivery: Delivery,
  name: string,
  options: MailableOptions<unknown, StandardSchemaV1 | undefined>,
): Mailable<unknown> {
  const { settings, seam } = delivery;
  const faults = faultsOf(options);
  if (faults.length > 0) throw new ConfigError(`Invalid options for mail.define(${JSON.stringify(name)})`, faults);
  const { input, examples = {}, build, task: taskName = `${settings.name}.${name}`, ...job } = options;
  const run = async (value: unknown, ctx: TaskContext<TaskResult>): Promise<MailOutcome | Cancel | Snooze> => {
    const preview = previewing.getStore();
    if (preview) {
      await previewOf(settings, await build(value, ctx), ctx, preview);
      return { state: 'held', messageId: '', accepted: [], refused: [] };
    }
    return deliver(delivery, ctx, async () => (await build(value, ctx)) ?? nothingToSend(), isMessage);
  };
  const own = jobOptions(settings, job, mailRetry);
  const task = tasks.define(taskName, { ...own, ...(input ? { input } : {}), run } as never) as unknown as Task<unknown, MailOutcome>;
  const mailable = mailableOf(tasks, name, task, examples);
  seam.mailables.set(name, mailable);
  seam.tasks.add(task.name);
  return mailable;
}

function mailableOf<Input>(
  tasks: Tasks,
  name: string,
  task: Task<Input, MailOutcome>,
  examples: Readonly<Record<string, Input>>,
): Mailable<Input> {
  type Call = (...args: unknown[]) => unknown;
  const checked =
    (call: Call): Call =>
    (...args) => {
      const refused = refusalOf(tasks, task);
      return refused ? Promise.reject(refused) : call.apply(task, args);
    };
  return {
    name,
    task,
    examples,
    send: checked(task.enqueue as Call) as Mailable<Input>['send'],
    sendMany: checked(task.enqueueMany as Call) as Mailable<Input>['sendMany'],
    using: (options) =>
      mailableOf(tasks, name, task.using(options?.tags ? { ...options, tags: withTag(options.tags) } : options), examples),
    async preview(input) {
      const held: { preview?: MailPreview; none?: string } = {};
      await previewing.run(held, () => (task.call as (input: Input) => Promise<MailOutcome>)(input));
      if (held.preview) return held.preview;
      throw new InputError(`${task.name} builds no message from this input: ${held.none ?? 'it ended early'}`);
    },
  };
}

/** The records of sent mails are stored with the job, which not every backend supports. */
function refusalOf(tasks: Tasks, { name, backend }: Pick<Task, 'name' | 'backend'>): ConfigError | undefined {
  const bound = tasks.backends.find(({ alias }) => alias === backend);
  if (!bound || bound.supports.engine) return undefined;
  const expected = 'a backend that runs the engine, such as postgres() or sqlite()';
  return new ConfigError(`Cannot enqueue ${name}`, [
    { path: 'mail', expected, got: `backend ${backend}, which is ${bound.name}() and does not support mail` },
  ]);
}

async function previewOf(
  settings: Settings,
  built: Built,
  ctx: TaskContext<TaskResult>,
  held: { preview?: MailPreview; none?: string },
): Promise<void> {
  if (!built || !isMessage(built)) {
    held.none = built ? ('reason' in built ? `cancelled, ${built.reason}` : 'snoozed') : 'it returned nothing';
    return;
  }
  const message = await inline({ ...settings.defaults, ...built, date: built.date ?? ctx.now() }, { limit: settings.limit, stored: false });
  const composed = await compose(message, idOf(ctx.result), { raw: true });
  const { envelope, to, cc, bcc, messageId, raw } = composed;
  const mail = { from: envelope.from, to, cc, bcc, recipients: envelope.to, subject: message.subject ?? '', messageId, task: ctx.task };
  held.preview = { mail: { ...mail, ...bodyOf(message, composed) }, raw: raw ?? new Uint8Array() };
}

/** Control values have a brand; a message is plain data. */
function isMessage(built: MailMessage | Cancel | Snooze): built is MailMessage {
  return Object.getOwnPropertySymbols(built).length === 0;
}

function faultsOf(options: unknown): { path: string; expected: string; got: string }[] {
  if (typeof options !== 'object' || options === null) return [{ path: 'options', expected: 'an object with build', got: String(options) }];
  const { build, examples } = options as { build?: unknown; examples?: unknown };
  const faults: { path: string; expected: string; got: string }[] = [];
  if (typeof build !== 'function') faults.push({ path: 'build', expected: 'a function that returns the message', got: String(build) });
  if (examples !== undefined && (typeof examples !== 'object' || examples === null || Array.isArray(examples)))
    faults.push({ path: 'examples', expected: 'an object of inputs by name', got: String(examples) });
  if ('run' in options) faults.push({ path: 'run', expected: 'build; a mailable is run by the mail application', got: 'run' });
  for (const key of Object.keys(options).filter(isMailKey))
    faults.push({ path: key, expected: 'an option of createMail()', got: `${key} in define()` });
  return faults;
}

export { mailTag };
