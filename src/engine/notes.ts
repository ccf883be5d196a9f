/**
 * The notes of an attempt: progress, log lines and metadata. They are held here until the worker saves them with a renewal or with the
 * outcome.
 */
import type { Definition } from '../core/definition.ts';
import { show } from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import type { LogLevel } from '../core/events.ts';
import { cut, maxTextBytes, recordError } from '../core/failure.ts';
import { decode, encode, utf8Length } from '../core/json.ts';
import { latestLines, lineText, maxLines } from '../core/log.ts';
import type { Job, Progress } from '../core/types.ts';
import type { Scope } from '../ports/clock.ts';
import { duplicatesEvent, type Host } from './host.ts';

/** Notes that the store has not saved yet. */
export interface Unsaved {
  readonly log?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** The attempt. */
interface NotesContext extends Scope {
  readonly host: Host;
  readonly job: Job;
  readonly worker: string;
  readonly definition: Definition | undefined;
  readonly ended: boolean;
}

export const nothingUnsaved: Unsaved = {};

/** Maximum size of a job's metadata when a task changes it, in bytes of JSON. */
const maxMetadataBytes = 16_384;

/** Tasks for which a warning has been logged. */
const warned = new WeakSet<Definition>();

export class Notes {
  #progress: Progress | null = null;
  #savedProgress: Progress | null = null;
  readonly #of: NotesContext;
  readonly #changed: () => void;
  /** Lines that are not saved yet, and the total number of lines logged. */
  #lines: string[] | undefined;
  #logged = 0;
  /** The metadata as changed by the attempt, and as last saved. */
  #metadata: Readonly<Record<string, unknown>> | undefined;
  #savedMetadata: Readonly<Record<string, unknown>> | undefined;

  /** @param changed called when something needs to be saved soon */
  constructor(context: NotesContext, changed: () => void) {
    this.#of = context;
    this.#changed = changed;
  }

  get progress(): Progress | null {
    return this.#progress;
  }

  /** The progress to save with the next renewal. */
  get unsavedProgress(): Progress | null {
    return this.#progress === this.#savedProgress ? null : this.#progress;
  }

  /** The notes to save with the next renewal or with the outcome. */
  get unsaved(): Unsaved {
    const log = this.#lines && this.#lines.length > 0 ? { log: this.#lines } : nothingUnsaved;
    return this.#metadata === this.#savedMetadata || this.#metadata === undefined ? log : { ...log, metadata: this.#metadata };
  }

  /** Called when the store has saved these notes. */
  saved({ log, metadata, progress }: Unsaved & { readonly progress?: Progress | null }): void {
    if (progress) this.#savedProgress = progress;
    if (log) this.#lines = this.#lines?.filter((line) => !log.includes(line));
    if (metadata) this.#savedMetadata = metadata;
  }

  get metadata(): Readonly<Record<string, unknown>> {
    return this.#metadata ?? this.#of.job.metadata;
  }

  setMetadata(key: string, value: unknown): void {
    const { ended, host, job } = this.#of;
    if (ended) return;
    const where = `ctx.metadata.set(${show(key)}) of ${job.task}`;
    if (typeof key !== 'string') throw new InputError(`${where}: the key must be a string`);
    const { [key]: _, ...others } = this.metadata;
    const text = encode(value === undefined ? others : { ...others, [key]: value }, where);
    if (utf8Length(text) > maxMetadataBytes)
      throw new InputError(
        `${where}: the metadata of a job is limited to ${maxMetadataBytes} bytes of JSON; this would be ${utf8Length(text)}`,
      );
    this.#metadata = decode(text) as Readonly<Record<string, unknown>>;
    host.clock.inTurn(this.#of, this.#changed);
  }

  log(level: LogLevel, message: string, fields: Record<string, unknown> | undefined): void {
    const { host, job, worker } = this.#of;
    const { attempt, claim } = job;
    const text = typeof message === 'string' ? message : show(message);
    const kept = fields === undefined ? null : copied(fields);
    const at = host.clock.now();
    this.#lines ??= [];
    this.#lines.push(lineText({ at, level, message: text, fields: kept, attempt, claim, n: this.#logged++ }));
    if (this.#lines.length >= 2 * maxLines) this.#lines = latestLines(this.#lines);
    host.logger[level](duplicatesEvent({ task: job.task, job: job.id, attempt, ...kept }), text);
    if (!host.events.hasListeners('logged')) return;
    host.events.emit({ type: 'logged', at, job, worker, attempt, level, message: text, fields: kept });
  }

  report(fraction: number, message: string | undefined): void {
    const { ended, host, job, worker } = this.#of;
    // Progress reported after the end of the attempt is ignored.
    if (ended) return;
    const at = host.clock.now();
    if (!(fraction >= 0 && fraction <= 1) || typeof fraction !== 'number') this.#warnOfProgress(fraction);
    const known = typeof fraction === 'number' && !Number.isNaN(fraction);
    const progress: Progress = {
      fraction: known ? Math.min(1, Math.max(0, fraction)) : (this.#progress?.fraction ?? 0),
      message: message === undefined ? null : cut(typeof message === 'string' ? message : show(message), maxTextBytes),
      at,
    };
    this.#progress = progress;
    host.clock.inTurn(this.#of, this.#changed);
    if (!host.events.hasListeners('progressed')) return;
    host.events.emit({ type: 'progressed', at, job: { ...job, progress }, worker, attempt: job.attempt, progress });
  }

  /** Warns once per task, because a loop may report a thousand times. */
  #warnOfProgress(fraction: unknown): void {
    const { host, job, definition } = this.#of;
    if (definition === undefined || warned.has(definition)) return;
    warned.add(definition);
    const meant = typeof fraction === 'number' && fraction > 1 && fraction <= 100 ? `; for ${fraction} %, pass ${fraction / 100}` : '';
    const text = `ctx.progress(${show(fraction)}): the fraction is a number from 0 to 1${meant}`;
    host.logger.warn({ task: job.task, job: job.id, attempt: job.attempt }, text);
  }
}

/** The fields of a log line; unreadable ones are omitted. */
function copied(fields: Record<string, unknown>): Record<string, unknown> {
  try {
    return { ...fields };
  } catch (error) {
    return { unreadable: recordError(error).message };
  }
}
