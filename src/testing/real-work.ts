/**
 * Tracks real work in the whole process, outside virtual time: system requests (files, names, native jobs), connections that wait for an
 * answer, child processes, threads. Node's async hooks report what starts and ends. They are enabled when this module is loaded, so
 * resources opened by a module-level client long before a simulation are known too. Since promises are not tracked, the hooks cost almost
 * nothing until real work is started.
 *
 * - A request is over when its callback is about to run.
 * - A connection, a port to a thread or a child process is long-lived; `channels` checks whether anything waits for it.
 * - Work that no hook reports is counted by wrapping the function: webcrypto, WebAssembly, `Atomics.waitAsync`, messages to threads.
 */
import { AsyncResource, createHook } from 'node:async_hooks';
import { scope as currentScope } from '../engine/scope.ts';
import { isOwnWork, type Scope } from '../ports/clock.ts';
import { realNow } from '../ports/real.ts';
import { Channels, carriers, isChannel, isConnection, isRequest } from './channels.ts';
import { framesOfRequests, isUsersTimer, siteOf, where } from './sites.ts';
import { watchVitest, wrapUnseen } from './unseen.ts';

/** Real work that was started. */
export interface Work {
  readonly type: string;
  /** The attempt that started it, if any. */
  readonly scope: Scope | undefined;
  readonly site: Error | undefined;
  /** It has exceeded the budget, so virtual time advances anyway. */
  excused: boolean;
  /** It was left in progress by an attempt of a simulation that has ended. */
  forgotten: boolean;
}

/** Maximum number of requests per simulation that are reported with their location, because capturing a stack is not free. */
const maxLocated = 1_000;

/** What a running simulation needs to know. */
interface Attendant {
  /** The longest real timer that is waited for, in milliseconds. */
  readonly longestMs: number;
  isInFlight(scope: Scope): boolean;
  /** An attempt has set a real timer, using a function that was captured too early. */
  captured(site: Error): void;
}

interface Request extends Work {
  /** Weak, because the end of a synchronous crypto job is never reported. */
  readonly native: WeakRef<object> | undefined;
}

/** Resource types that are neither work nor channels: promises and callbacks, listeners and watchers, parts of channels. */
const ignored = new Set([
  'PROMISE',
  'TickObject',
  'Microtask',
  'Timeout',
  'TTYWRAP',
  'SIGNALWRAP',
  'FSEVENTWRAP',
  'STATWATCHER',
  'DNSCHANNEL',
  'HTTPINCOMINGMESSAGE',
  'HTTP2SETTINGS',
  'HTTP2PING',
  'FILEHANDLE',
  'DIRHANDLE',
  'UDPWRAP',
  'JSSTREAM',
  'STREAMPIPE',
  'BLOBREADER',
  'INSPECTORJSBINDING',
  'ELDHISTOGRAM',
  'HEAPSNAPSHOT',
]);

const cryptoJobs =
  /^(RANDOMBYTES|RANDOMPRIME|CHECKPRIME|PBKDF2|SCRYPT|HASH|HKDF|ARGON2|KEM|SIGN|VERIFY|CIPHER|DERIVEBITS|KEYPAIRGEN|KEYGEN|KEYEXPORT).*REQUEST$/;

const names: Readonly<Record<string, string>> = {
  FSREQCALLBACK: 'a file system call',
  FSREQPROMISE: 'a file system call',
  FILEHANDLECLOSEREQ: 'a file system call',
  GETADDRINFOREQWRAP: 'a DNS lookup',
  GETNAMEINFOREQWRAP: 'a DNS lookup',
  QUERYWRAP: 'a DNS query',
  TCPCONNECTWRAP: 'a TCP connection being opened',
  PIPECONNECTWRAP: 'a connection being opened',
  WRITEWRAP: 'data being written',
  SHUTDOWNWRAP: 'a connection being closed',
  UDPSENDWRAP: 'a datagram being sent',
  ZLIB: 'compression',
  Immediate: 'setImmediate',
};

/** The name of a kind of work in reports. */
function nameOf(type: string): string {
  // A local port may differ in every run.
  if (type.startsWith('fetch ')) return type.replace(/(127\.0\.0\.1|localhost|\[::1\]):\d+/, '$1');
  return names[type] ?? (cryptoJobs.test(type) ? 'a crypto job' : type);
}

export class RealWork {
  readonly #requests = new Map<number, Request>();
  /** Callbacks of setImmediate that attempts are waiting for. */
  readonly #immediates = new Map<number, Work>();
  readonly #channels = new Channels(() => this.#event());
  /** Resources and requests of stores. */
  readonly #own = new Set<number>();
  /** Compressors; each may become active again. */
  readonly #compressors = new Map<number, Request>();
  /** The pending calls of attempts, by name: `fetch https://…`. */
  readonly #calls = new Set<Work>();
  #wake: (() => void) | undefined;
  /** Number of real events: work that has started or ended, data that has arrived. */
  events = 0;
  /** Number of requests among them that started or ended, which shows that the program is making progress. */
  steps = 0;
  /** Set while a simulation is running; only then does it matter who started what. */
  #attendant: Attendant | undefined;
  /** Number of requests of this simulation whose stack was captured. */
  #located = 0;
  /** A real timer that must be waited for is being set. */
  #arming = false;

  constructor() {
    createHook({
      init: (id, type, trigger, resource) => this.#begun(id, type, trigger, resource),
      before: (id) => this.#called(id),
      destroy: (id) => this.#destroyed(id),
      // Node.js 24 and later: promises are not tracked, which makes the hook free. Earlier versions ignore the option.
      trackPromises: false,
    } as Parameters<typeof createHook>[0]).enable();
    wrapUnseen((type, ended) => this.#unseen(type, ended), this.#channels);
  }

  /**
   * Called when a simulation starts.
   * @returns a function that ends it
   */
  attend(attendant: Attendant): () => void {
    this.#channels.adopt();
    watchVitest((type, ended) => {
      if (currentScope.getStore()) this.#unseen(type, ended);
    });
    this.#attendant = attendant;
    this.#located = 0;
    return () => {
      if (this.#attendant === attendant) this.#attendant = undefined;
      // Work that attempts have left in progress does not affect the next simulation.
      for (const work of this.#underWay(({ scope }) => scope !== undefined)) work.forgotten = true;
    };
  }

  /** True if real work is in progress, except work started by attempts of dead processes. */
  busy(isDead: (scope: Scope) => boolean): boolean {
    if (this.#requests.size + this.#immediates.size + this.#compressors.size + this.#channels.size === 0) return false;
    for (const _ of this.#underWay((work) => !work.excused && !isDeadIn(work, isDead))) return true;
    return false;
  }

  /** True if a connection or a thread has answered recently and may send more. */
  get unsettled(): boolean {
    return this.#channels.unsettled(realNow());
  }

  /** Called before virtual time advances: data received so far is complete. */
  moved(): void {
    this.#channels.moved();
  }

  /** True if the work in progress includes connections. */
  hasConnections(isDead: (scope: Scope) => boolean): boolean {
    for (const work of this.#underWay((one) => !isDeadIn(one, isDead))) if (isConnection(work)) return true;
    return false;
  }

  /** Virtual time no longer waits for the work that is in progress now. */
  excuse(isDead: (scope: Scope) => boolean): Work[] {
    const all = [...this.#underWay((work) => !work.excused && !isDeadIn(work, isDead))];
    for (const work of all) work.excused = true;
    return all;
  }

  /** Work that an attempt has started and that is still in progress, whether excused or not. */
  of(scope: Scope): Work[] {
    if (this.#requests.size + this.#compressors.size + this.#channels.size + this.#calls.size === 0) return [];
    const calls = [...this.#calls].filter((call) => call.scope === scope);
    return [...calls, ...this.#underWay((work) => work.scope === scope)];
  }

  /** All work in progress, whether excused or not. */
  all(isDead: (scope: Scope) => boolean): Work[] {
    return [...this.#underWay((work) => !isDeadIn(work, isDead))];
  }

  /** Describes in messages what an attempt waits on. A call with a name stands for its parts. */
  describe(work: readonly Work[], scope?: Scope): string[] {
    const calls = scope ? [...this.#calls].filter((call) => call.scope === scope) : [];
    const shown = calls.length > 0 ? calls : work;
    return [
      ...new Set(
        shown.map((one) => `${calls.length > 0 ? one.type : nameOf(one.type)}${one.site ? `, started at ${where(one.site)}` : ''}`),
      ),
    ];
  }

  /** The kinds of work, without locations, which differ between machines. A request stands for its connection. */
  kinds(work: readonly Work[]): string {
    const all = [...new Set(work.map(({ type }) => nameOf(type)))];
    const without = all.some(isRequest) ? all.filter((name) => !carriers.has(name)) : all;
    return without.sort().join(', ');
  }

  /** The names of the pending calls, or otherwise their kinds. */
  names(work: readonly Work[]): string {
    return this.kinds(this.#calls.size > 0 ? [...this.#calls] : work);
  }

  /** Runs a call under a name for reports. */
  async calling<T>(name: string, fn: () => Promise<T>): Promise<T> {
    const call: Work = { type: name, scope: currentScope.getStore(), site: siteOf(name), excused: false, forgotten: false };
    this.#calls.add(call);
    try {
      return await fn();
    } finally {
      this.#calls.delete(call);
    }
  }

  /** Resolves on the next real event. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  *#underWay(matches: (work: Work) => boolean): Generator<Work> {
    const wanted = (work: Work) => !work.forgotten && matches(work);
    for (const some of [this.#requests, this.#compressors]) {
      for (const [id, request] of some) {
        const state = stateOf(request);
        if (state === 'over') some.delete(id);
        else if (state === 'busy' && wanted(request)) yield request;
      }
    }
    for (const immediate of this.#immediates.values()) {
      // Virtual time does not wait for what a client does in its next turn for an attempt that has ended.
      if (wanted(immediate) && this.#attendant?.isInFlight(immediate.scope as Scope)) yield immediate;
    }
    if (this.#channels.size > 0) yield* this.#channels.busy(wanted);
  }

  #begun(id: number, type: string, trigger: number, resource: object): void {
    if (ignored.has(type)) {
      if (type === 'Timeout' && this.#attendant) this.#timerSet(id, resource, this.#attendant);
      return;
    }
    if (type === 'Immediate') {
      const scope = this.#attendant ? currentScope.getStore() : undefined;
      if (scope) this.#immediates.set(id, { type, scope, site: undefined, excused: false, forgotten: false });
      return;
    }
    if (resource instanceof AsyncResource) return;
    if (isOwnWork()) {
      this.#own.add(id);
      return;
    }
    const scope = currentScope.getStore();
    const isLocated = scope !== undefined && this.#attendant !== undefined && (isChannel(type) || ++this.#located <= maxLocated);
    const site = isLocated ? siteOf(type, framesOfRequests) : undefined;
    if (this.#channels.begun(id, type, trigger, resource, scope, site)) {
      this.#event();
      return;
    }
    const work: Request = { type, scope, site, native: isWeak(type) ? new WeakRef(resource) : undefined, excused: false, forgotten: false };
    if (type === 'ZLIB') this.#compressors.set(id, work);
    else {
      this.#requests.set(id, work);
      if (this.#requests.size % 4_096 === 0) for (const _ of this.#underWay(() => false));
    }
    this.steps += 1;
    this.#event();
  }

  /**
   * A timer that is not virtual was set: either a requested one, or one of a function that was captured too early. Internal timers of
   * Node.js are neither.
   */
  #timerSet(id: number, resource: { readonly _idleTimeout?: number }, { longestMs, captured }: Attendant): void {
    const scope = currentScope.getStore();
    if (!this.#arming) {
      if (!scope) return;
      const site = siteOf('set here');
      if (!isUsersTimer(site)) return;
      captured(site);
    }
    // A timer longer than the longest wait is not waited for at all.
    if ((resource._idleTimeout ?? 0) > longestMs) return;
    this.#requests.set(id, { type: 'a real timer', scope, site: undefined, native: undefined, excused: false, forgotten: false });
    this.#event();
  }

  /** Sets a real timer that virtual time waits for. */
  timer<T>(arm: () => T): T {
    this.#arming = true;
    try {
      return arm();
    } finally {
      this.#arming = false;
    }
  }

  #called(id: number): void {
    if (this.#own.has(id)) {
      this.#progressed();
      return;
    }
    if (this.#requests.delete(id)) {
      this.steps += 1;
      this.#event();
    } else if (this.#immediates.delete(id) || this.#compressors.has(id) || this.#channels.called(id)) this.#event();
  }

  #destroyed(id: number): void {
    this.#own.delete(id);
    if (this.#requests.delete(id)) this.#event();
    this.#immediates.delete(id);
    this.#compressors.delete(id);
    if (this.#channels.destroyed(id)) this.#event();
  }

  #unseen(type: string, ended: Promise<unknown>): void {
    const scope = currentScope.getStore();
    const id = --this.#unseenId;
    this.#requests.set(id, {
      type,
      scope,
      site: scope && this.#attendant ? siteOf(type) : undefined,
      native: undefined,
      excused: false,
      forgotten: false,
    });
    this.steps += 1;
    const over = () => {
      this.#requests.delete(id);
      this.steps += 1;
      this.#event();
    };
    ended.then(over, over);
  }
  /** Negative, to stay distinct from Node's async ids. */
  #unseenId = 0;

  /** Number of unanswered store calls. Virtual time stands still for all of them, whichever process made them, alive or dead. */
  storeCalls = 0;

  /** @param isOfAttempt whether an attempt or a test made the call; what follows then happens in the order of attempts */
  storeCall(answer: Promise<unknown>, isOfAttempt: boolean): void {
    if (isOfAttempt) this.#unseen('a call of the store', answer);
    this.storeCalls += 1;
    const over = () => {
      this.storeCalls -= 1;
      this.#progressed();
    };
    answer.then(over, over);
  }

  #event(): void {
    this.events += 1;
    this.#wakeUp();
  }

  /** A store has made progress, which concerns no attempt. */
  #progressed(): void {
    this.steps += 1;
    this.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function isDeadIn({ scope }: Work, isDead: (scope: Scope) => boolean): boolean {
  return scope !== undefined && isDead(scope);
}

function isWeak(type: string): boolean {
  return type === 'ZLIB' || cryptoJobs.test(type);
}

/** A native job of crypto or zlib, if it reports whether it is active. */
interface NativeJob {
  readonly ondone?: unknown;
  readonly buffer?: unknown;
}

function stateOf({ type, native }: Request): 'busy' | 'idle' | 'over' {
  if (!native) return 'busy';
  const job = native.deref() as NativeJob | undefined;
  if (!job) return 'over';
  if (type === 'ZLIB') return job.buffer === undefined || job.buffer === null ? 'idle' : 'busy';
  return typeof job.ondone === 'function' ? 'busy' : 'over';
}

/** The real work of this process. */
export const realWork = new RealWork();
