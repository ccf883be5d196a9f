/**
 * Which real things an attempt has started that are not over: files being read, sockets, native work. Node's async hooks tell; without
 * promises they cost nothing while nothing real is started. Used to tell an attempt that waits on the world from one that waits on another
 * part of the program.
 */
import { type AsyncHook, createHook } from 'node:async_hooks';
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';

/** Not waited for: what ends by itself within a turn, standard output, which is opened by the first line that is written, and housekeeping. */
const ignored = new Set([
  'PROMISE',
  'TickObject',
  'Microtask',
  'bound-anonymous-fn',
  'PIPEWRAP',
  'TTYWRAP',
  'DNSCHANNEL',
  'STREAM_END_OF_STREAM',
]);
/** Sockets are kept open for the next request: that one is there does not say that anyone waits for it. */
const lasting = new Set(['TCPWRAP', 'TLSWRAP', 'HTTPCLIENTREQUEST', 'HTTPINCOMINGMESSAGE', 'Immediate']);

const cryptoJobs =
  /^(RANDOMBYTES|RANDOMPRIME|CHECKPRIME|PBKDF2|SCRYPT|HASH|HKDF|ARGON2|SIGN|VERIFY|CIPHER|DERIVEBITS|KEYPAIRGEN|KEYGEN|KEYEXPORT).*REQUEST$/;

/** A native job of crypto or zlib, as far as it tells whether it runs in the background; one that was synchronous is over when it is seen. */
interface NativeJob {
  readonly ondone?: unknown;
  readonly buffer?: unknown;
}

interface Resource {
  readonly type: string;
  readonly site: Error;
  /** Weak, or what is over would never be known to be. */
  readonly native: WeakRef<NativeJob>;
}

export class ResourceWatch {
  readonly #hook: AsyncHook;
  readonly #ids = new Map<number, Scope>();
  readonly #live = new WeakMap<Scope, Map<number, Resource>>();

  constructor() {
    const options = {
      init: (id: number, type: string, _cause: number, resource: object) => this.#begun(id, type, resource),
      destroy: (id: number) => this.#over(id),
      // Node 24 and later: promises are not followed, which makes the hook free. Older ones ignore it.
      trackPromises: false,
    };
    this.#hook = createHook(options).enable();
  }

  /** How many real things the attempt has under way. */
  live(scope: Scope): number {
    const all = this.#live.get(scope);
    return all === undefined || all.size === 0 ? 0 : [...all.values()].filter(isLive).length;
  }

  /** True if it has something under way that it certainly waits for, or has given up. */
  busy(scope: Scope): boolean {
    return [...(this.#live.get(scope)?.values() ?? [])].some((resource) => isLive(resource) && !lasting.has(resource.type));
  }

  /** What they are, and where they were started, for a person. */
  describe(scope: Scope): string {
    const resources = [...(this.#live.get(scope)?.values() ?? [])].filter(isLive);
    if (resources.length === 0) return 'a promise that nothing in the simulation settles';
    return resources.map(({ type, site }) => `${type} (${where(site)})`).join(', ');
  }

  close(): void {
    this.#hook.disable();
  }

  #begun(id: number, type: string, resource: object): void {
    if (ignored.has(type)) return;
    const scope = currentScope.getStore();
    if (!scope) return;
    let resources = this.#live.get(scope);
    if (!resources) {
      resources = new Map();
      this.#live.set(scope, resources);
    }
    resources.set(id, { type, site: siteOf(type), native: new WeakRef<NativeJob>(resource) });
    this.#ids.set(id, scope);
  }

  #over(id: number): void {
    const scope = this.#ids.get(id);
    if (!scope) return;
    this.#ids.delete(id);
    this.#live.get(scope)?.delete(id);
  }
}

function isLive({ type, native }: Resource): boolean {
  const job = native.deref();
  if (!job) return false;
  if (type === 'ZLIB') return job.buffer !== undefined && job.buffer !== null;
  return !cryptoJobs.test(type) || typeof job.ondone === 'function';
}

/** An error whose stack reaches the user's code: below it stand Node's frames and ours, more than the usual ten. */
export function siteOf(what: string): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 30;
  const site = new Error(what);
  Error.stackTraceLimit = limit;
  return site;
}

/** The first frame of a stack that is the user's: not Node's, not ours, not a dependency's. */
export function where(site: Error | undefined): string {
  const frames = (site?.stack ?? '')
    .split('\n')
    .slice(1)
    .map((frame) => frame.trim().replace(/^at /, ''));
  const own = frames.find(
    (frame) => !/node:|node_modules|\/(src|dist\/src)\/(engine|testing|core|stores|ports)\//.test(frame) && frame.includes(':'),
  );
  return own ?? frames.find((frame) => !frame.startsWith('siteOf ')) ?? 'unknown place';
}
