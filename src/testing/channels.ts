/**
 * Long-lived resources: connections, HTTP requests, child processes, threads and the ports to them. Each reports
 * whether anything waits for it.
 *
 * - A client's connection is busy if it was written to after data last arrived, or if nothing has arrived yet; this fits every
 *   request/response protocol. Connections of undici (`fetch`) report it themselves: they are referenced during a request.
 * - A connection to a server in the same process is busy only while bytes are in transit: what the server does with them is visible anyway,
 *   and a mock that answers after `setTimeout` answers in virtual time.
 * - A port to a thread is busy while it has been sent more messages than it has returned.
 * - A child process started by an attempt is busy until it exits; any other while it was written to and has not answered.
 *
 * Nothing waits for resources that are not referenced (`unref`).
 */
import type { Scope } from '../ports/clock.ts';
import { realNow } from '../ports/real.ts';
import type { Work } from './real-work.ts';

/** How long a connection that has answered may send more before virtual time advances, because an answer may arrive in pieces. */
const settleMs = 25;

/** The inspected part of a native handle. */
interface Handle {
  readonly bytesRead?: number;
  readonly bytesWritten?: number;
  readonly reading?: boolean;
  readonly fd?: number;
  readonly _parent?: Handle;
  readonly req?: ClientRequest;
  readonly address?: unknown;
  hasRef?(): boolean;
  getAsyncId?(): number;
  getsockname?(out: Address): number;
  getpeername?(out: Address): number;
}

interface Address {
  address?: string;
  port?: number;
}

/** The owner of a handle: a socket, a server, a child process. */
interface HandleOwner {
  readonly _handle?: unknown;
  readonly destroyed?: boolean;
  readonly connecting?: boolean;
  readonly server?: unknown;
  readonly remoteAddress?: string;
  readonly exitCode?: number | null;
  readonly signalCode?: string | null;
  readonly session?: { readonly type?: number; readonly socket?: object; readonly destroyed?: boolean };
  readonly closed?: boolean;
  address?(): unknown;
}

interface ClientRequest {
  readonly destroyed?: boolean;
  readonly writableEnded?: boolean;
  readonly res?: { readonly complete?: boolean } | null;
  readonly socket?: { readonly _handle?: Handle | null } | null;
}

type Kind = 'socket' | 'tls' | 'pipe' | 'request' | 'session' | 'stream' | 'process' | 'thread' | 'port';

const kinds: Readonly<Record<string, Kind>> = {
  TCPWRAP: 'socket',
  TLSWRAP: 'tls',
  PIPEWRAP: 'pipe',
  HTTPCLIENTREQUEST: 'request',
  HTTP2SESSION: 'session',
  HTTP2STREAM: 'stream',
  PROCESSWRAP: 'process',
  WORKER: 'thread',
  MESSAGEPORT: 'port',
};

const titles: Readonly<Record<Kind, string>> = {
  socket: 'a TCP connection',
  tls: 'a TLS connection',
  pipe: 'a connection through a pipe or Unix socket',
  request: 'an HTTP request',
  session: 'an HTTP/2 session',
  stream: 'an HTTP/2 request',
  process: 'a child process',
  thread: 'a worker thread',
  port: 'a message to a thread',
};

/** What carries requests. Which of these is active during a request depends on whether a connection was kept alive. */
export const carriers: ReadonlySet<string> = new Set([titles.socket, titles.tls, titles.pipe, titles.session]);
export const isRequest = (title: string): boolean => title === titles.request || title === titles.stream;

class Channel implements Work {
  readonly id: number;
  readonly kind: Kind;
  readonly scope: Scope | undefined;
  readonly site: Error | undefined;
  readonly handle: Handle;
  excused = false;
  forgotten = false;
  /** Whether it is the server's end of a connection. */
  accepted = false;
  /** The server that accepted it. */
  server: number | undefined;
  /** Whether it is the client's end of an established connection. */
  connected = false;
  /** The path that a Unix socket connects to. */
  path: unknown;
  /** The number of bytes written when data last arrived. */
  writtenAtArrival = 0;
  /** Messages sent through a port. */
  sent = 0;
  received = 0;
  /** The other end of a port, while both are in this thread. */
  sibling: Channel | undefined;
  /** Whether its other end is in another thread. */
  remote = false;
  /** A child process and the pipes to it, including the one for messages. */
  child: Channel | undefined;
  readonly pipes: Channel[] = [];
  /** The ports of a thread: first its internal one, then the one that the program uses. */
  inner: Channel | undefined;
  outer: Channel | undefined;

  constructor(id: number, kind: Kind, handle: Handle, scope: Scope | undefined, site: Error | undefined) {
    this.id = id;
    this.kind = kind;
    this.handle = handle;
    this.scope = scope;
    this.site = site;
  }

  get type(): string {
    return titles[this.kind];
  }

  arrived(): void {
    this.received += 1;
    this.writtenAtArrival = this.handle.bytesWritten ?? 0;
    this.excused = false;
    this.forgotten = false;
  }
}

/** True for the types of long-lived resources. */
export function isChannel(type: string): boolean {
  return Object.hasOwn(kinds, type);
}

/** True for resources that clients have timeouts for. */
export function isConnection(work: Work): boolean {
  return work instanceof Channel && work.kind !== 'process' && work.kind !== 'thread' && work.kind !== 'port';
}

export class Channels {
  readonly #channels = new Map<number, Channel>();
  readonly #byHandle = new WeakMap<object, Channel>();
  /** The listening sockets of this process. */
  readonly #servers = new Map<number, Handle>();
  readonly #onSent: () => void;
  #lastPort: Channel | undefined;
  #lastThread: Channel | undefined;
  #lastChild: Channel | undefined;
  /** When a connection whose answers have no recognisable end last received data since time advanced. */
  #spokeAt = Number.NEGATIVE_INFINITY;

  /** @param onSent called when a message is sent to a thread */
  constructor(onSent: () => void) {
    this.#onSent = onSent;
  }

  /** Registers the resources that exist already. */
  adopt(): void {
    const handles = (process as unknown as { _getActiveHandles?(): object[] })._getActiveHandles?.() ?? [];
    for (const one of handles) {
      const handle = ((one as HandleOwner)._handle ?? one) as Handle;
      const id = handle.getAsyncId?.();
      if (id === undefined || this.#channels.has(id) || this.#servers.has(id)) continue;
      const kind = kindOf(handle);
      if (kind === 'server') this.#servers.set(id, handle);
      else if (kind) {
        // Standard input and output, and the pipe to the parent process.
        if (kind === 'pipe') continue;
        const channel = new Channel(id, kind, handle, undefined, undefined);
        channel.writtenAtArrival = handle.bytesWritten ?? 0;
        channel.accepted = Boolean((one as HandleOwner).server);
        channel.connected = !channel.accepted;
        this.#add(channel);
      }
    }
  }

  /** True if the new resource is a channel or part of one. */
  begun(id: number, type: string, trigger: number, resource: Handle, scope: Scope | undefined, site: Error | undefined): boolean {
    if (type === 'TCPSERVERWRAP' || type === 'PIPESERVERWRAP') {
      this.#servers.set(id, resource);
      return true;
    }
    if (type === 'TCPCONNECTWRAP' || type === 'PIPECONNECTWRAP') {
      const channel = this.#channels.get(trigger);
      if (channel) {
        channel.connected = true;
        channel.path = resource.address;
      }
      // The request to connect is tracked separately.
      return false;
    }
    const kind = kinds[type];
    if (!kind) return false;
    const channel = new Channel(id, kind, resource, scope, site);
    channel.accepted = this.#servers.has(trigger);
    if (channel.accepted) channel.server = trigger;
    // A TLS socket exists only once it is connected; the server's end is based on an accepted socket.
    if (kind === 'tls') channel.connected = true;
    if (kind === 'thread') this.#lastThread = channel;
    if (kind === 'process') this.#lastChild = channel;
    if (kind === 'pipe' && this.#lastChild && id === this.#lastChild.id + this.#lastChild.pipes.length + 1) {
      // The pipes of a child are created right after it.
      channel.child = this.#lastChild;
      channel.child.pipes.push(channel);
    }
    if (kind === 'port') this.#pair(channel);
    this.#add(channel);
    return true;
  }

  /** The two ends of a MessageChannel are created one after the other. The first port of a thread is for its internal messages. */
  #pair(port: Channel): void {
    if (this.#lastThread && port.id === this.#lastThread.id + 1) {
      port.remote = true;
      this.#lastThread.inner = port;
      this.#lastThread = undefined;
      return;
    }
    const other = this.#lastPort;
    this.#lastPort = undefined;
    if (other && other.id === port.id - 1) {
      port.sibling = other;
      other.sibling = port;
    } else this.#lastPort = port;
  }

  /** A callback of a channel is about to run, so something has arrived. */
  called(id: number): boolean {
    const channel = this.#channels.get(id);
    if (!channel) return false;
    channel.arrived();
    // Output of a child process answers everything that was sent to it.
    if (channel.child) channel.child.writtenAtArrival = writtenTo(channel.child.pipes);
    if (channel.kind === 'socket' || channel.kind === 'tls' || channel.kind === 'pipe' || channel.kind === 'port')
      if (!channel.accepted && (channel.connected || channel.remote)) this.#spokeAt = realNow();
    return true;
  }

  destroyed(id: number): boolean {
    const channel = this.#channels.get(id);
    this.#servers.delete(id);
    if (!channel) return false;
    if (channel.sibling) channel.sibling.sibling = undefined;
    return this.#channels.delete(id);
  }

  /** A message, possibly with ports, is being sent through a port. */
  sends(port: object, transferred: unknown): void {
    const channel = this.#byHandle.get(port);
    const list = Array.isArray(transferred) ? transferred : (transferred as { transfer?: unknown[] } | null | undefined)?.transfer;
    for (const one of Array.isArray(list) ? list : []) {
      const moved = this.#byHandle.get(one as object);
      const left = moved?.sibling;
      if (!moved || !left) continue;
      // The port now leads out of this thread, if the message does.
      if (channel?.remote || channel?.sibling === undefined) left.remote = true;
      const thread = channel && [...this.#channels.values()].find(({ inner }) => inner === channel);
      if (thread && !thread.outer) thread.outer = left;
    }
    if (!channel) return;
    channel.sent += 1;
    channel.excused = false;
    this.#onSent();
  }

  /** A message was taken from a port with `receiveMessageOnPort`. */
  takes(port: object): void {
    this.#byHandle.get(port)?.arrived();
  }

  #add(channel: Channel): void {
    this.#channels.set(channel.id, channel);
    this.#byHandle.set(channel.handle, channel);
  }

  get size(): number {
    return this.#channels.size;
  }

  /** The wanted channels that something waits for. */
  *busy(wanted: (channel: Work) => boolean): Generator<Work> {
    let made: Local | undefined;
    const local = () => {
      made ??= new Local(this.#servers, this.#channels);
      return made;
    };
    for (const channel of this.#channels.values()) {
      if (!channel.accepted && wanted(channel) && this.#isBusy(channel, local)) yield channel;
    }
  }

  unsettled(now: number): boolean {
    return now - this.#spokeAt < settleMs;
  }

  moved(): void {
    this.#spokeAt = Number.NEGATIVE_INFINITY;
  }

  #isBusy(channel: Channel, local: () => Local): boolean {
    const { handle } = channel;
    switch (channel.kind) {
      case 'socket':
      case 'tls':
      case 'pipe':
        return this.#isConnectionBusy(channel, local);
      case 'request': {
        const { req } = handle;
        if (!req || req.destroyed || !req.writableEnded || req.res?.complete) return false;
        // Without a socket, it waits for a connection, which is tracked separately, or a mock has intercepted it.
        const socket = req.socket?._handle;
        if (!socket || !this.#byHandle.get(socket)?.connected) return false;
        // Reading is paused: it waits for the program, not for the network.
        if (socket.reading === false && req.res) return false;
        return local().wayOf(this.#byHandle.get(rawOf(socket)) as Channel) === undefined;
      }
      case 'session':
        // Its requests are checked instead.
        return false;
      case 'stream': {
        const stream = ownerOf(handle);
        const session = stream?.session;
        // 1: a client's session. Server sessions answer requests of other processes or of this one.
        if (!stream || stream.destroyed || stream.closed || !session || session.type !== 1 || session.destroyed) return false;
        const socket = (session.socket as { readonly localPort?: number; readonly remotePort?: number } | undefined) ?? {};
        return !local().hasConnection(socket.localPort, socket.remotePort);
      }
      case 'process':
        return isChildBusy(channel);
      case 'thread':
        if (!isReferenced(handle)) return false;
        // Busy until the thread is running; if an attempt started it, until it has sent its first message.
        return channel.inner?.received === 0 || (channel.scope !== undefined && channel.outer?.received === 0);
      case 'port':
        return channel.remote && channel.sent > channel.received && isReferenced(handle);
    }
  }

  #isConnectionBusy(channel: Channel, local: () => Local): boolean {
    const { handle } = channel;
    if (!channel.connected || !isReferenced(handle)) return false;
    const owner = ownerOf(handle);
    // A TLS connection is checked itself, not its carrier.
    if (!owner || owner.destroyed || owner._handle !== handle) return false;
    if (channel.kind === 'tls' && owner.server) return false;
    if (channel.kind === 'pipe' && channel.path === undefined) return false;
    const way = local().wayOf(this.#byHandle.get(rawOf(handle)) ?? channel);
    if (way !== undefined) return way === 'busy';
    if (local().belongsToSession(owner)) return false;
    if (symbolOf(owner, 'no ref')) return true;
    const { bytesRead = 0, bytesWritten = 0 } = handle;
    return bytesRead === 0 || bytesWritten > channel.writtenAtArrival;
  }
}

/** Finds connections that lead to servers in this process. */
class Local {
  readonly #ports = new Set<number>();
  /** The paths of Unix socket servers, with both ends of their connections. */
  readonly #paths = new Map<unknown, { readonly clients: Handle[]; readonly ends: Handle[] }>();
  /** The sockets of HTTP/2 sessions. */
  readonly #sessions = new Set<unknown>();
  /** The servers' ends, by `local:remote` port. */
  readonly #ends = new Map<string, Handle>();

  constructor(servers: ReadonlyMap<number, Handle>, channels: ReadonlyMap<number, Channel>) {
    const paths = new Map<number, unknown>();
    for (const [id, server] of servers) {
      const { port } = addressOf(server, 'getsockname');
      if (port !== undefined) this.#ports.add(port);
      else {
        paths.set(id, ownerOf(server)?.address?.());
        this.#paths.set(paths.get(id), { clients: [], ends: [] });
      }
    }
    for (const { kind, handle } of channels.values()) {
      const session = kind === 'session' ? ownerOf(handle) : undefined;
      const key = session && symbolOf(session, 'socket');
      if (session && key) this.#sessions.add((session as Record<symbol, unknown>)[key]);
    }
    for (const { kind, accepted, server, connected, path, handle } of paths.size > 0 ? channels.values() : []) {
      if (kind !== 'pipe') continue;
      if (accepted) this.#paths.get(paths.get(server ?? 0))?.ends.push(handle);
      else if (connected) this.#paths.get(path)?.clients.push(handle);
    }
    if (this.#ports.size === 0) return;
    for (const { accepted, kind, handle } of channels.values()) {
      if (!accepted || kind !== 'socket') continue;
      const [localEnd, remoteEnd] = [addressOf(handle, 'getsockname'), addressOf(handle, 'getpeername')];
      if (localEnd.port !== undefined) this.#ends.set(`${localEnd.port}:${remoteEnd.port}`, handle);
    }
  }

  belongsToSession(socket: object): boolean {
    return this.#sessions.has(socket);
  }

  hasConnection(localPort: number | undefined, remotePort: number | undefined): boolean {
    return this.#ends.has(`${remotePort}:${localPort}`);
  }

  /** Whether bytes are in transit between the ends of a connection within this process; undefined if it leads elsewhere. */
  wayOf({ kind, path, handle }: Channel): 'busy' | 'quiet' | undefined {
    if (kind === 'pipe') {
      const both = this.#paths.get(path);
      if (!both || path === undefined) return undefined;
      const { clients, ends } = both;
      // The ends cannot be paired, so compare totals: everything one side has written must have been read by the other.
      const isWhole = clients.length !== ends.length || (hasAllArrived(clients, ends) && hasAllArrived(ends, clients));
      return isWhole ? 'quiet' : 'busy';
    }
    if (this.#ports.size === 0) return undefined;
    const [localEnd, remoteEnd] = [addressOf(handle, 'getsockname'), addressOf(handle, 'getpeername')];
    if (remoteEnd.port === undefined || !this.#ports.has(remoteEnd.port)) return undefined;
    if (!/^(127\.|::1$|::ffff:127\.)/.test(remoteEnd.address ?? '') && remoteEnd.address !== localEnd.address) return undefined;
    const end = this.#ends.get(`${remoteEnd.port}:${localEnd.port}`);
    // Not accepted yet, or already closed.
    if (!end) return handle.bytesRead === 0 && (handle.bytesWritten ?? 0) === 0 ? 'busy' : 'quiet';
    return isInTransit(handle, end) || isInTransit(end, handle) ? 'busy' : 'quiet';
  }
}

/** True if everything that `from` has written has been read by `to`, as far as it reads. */
function hasAllArrived(from: readonly Handle[], to: readonly Handle[]): boolean {
  const written = from.reduce((sum, { bytesWritten = 0 }) => sum + bytesWritten, 0);
  const read = to.reduce((sum, { bytesRead = 0 }) => sum + bytesRead, 0);
  return written <= read || to.some(({ reading }) => reading === false);
}

function isInTransit(from: Handle, to: Handle): boolean {
  return to.reading !== false && (from.bytesWritten ?? 0) > (to.bytesRead ?? 0);
}

const addresses = { getsockname: new WeakMap<Handle, Address>(), getpeername: new WeakMap<Handle, Address>() };

/** The TCP handle below a TLS handle. */
function rawOf(handle: Handle): Handle {
  return handle._parent ?? handle;
}

function addressOf(handle: Handle, of: 'getsockname' | 'getpeername'): Address {
  const known = addresses[of].get(handle);
  if (known) return known;
  const out: Address = {};
  try {
    handle[of]?.(out);
  } catch {
    // A closed handle has no address.
  }
  if (out.port !== undefined) addresses[of].set(handle, out);
  return out;
}

function isReferenced(handle: Handle): boolean {
  try {
    return handle.hasRef?.() ?? true;
  } catch {
    return false;
  }
}

/** A child started by an attempt is always waited for; any other only if it was written to and has not answered. */
function isChildBusy(channel: Channel): boolean {
  const child = ownerOf(channel.handle);
  if (!child || !isReferenced(channel.handle)) return false;
  if ((child.exitCode ?? null) !== null || (child.signalCode ?? null) !== null) return false;
  return channel.scope !== undefined || writtenTo(channel.pipes) > channel.writtenAtArrival;
}

function writtenTo(pipes: readonly Channel[]): number {
  return pipes.reduce((sum, { handle: { bytesWritten = 0 } }) => sum + bytesWritten, 0);
}

let ownerSymbol: symbol | undefined;

function ownerOf(handle: Handle): HandleOwner | undefined {
  ownerSymbol ??= symbolOf(handle, 'owner_symbol');
  return ownerSymbol ? (handle as Record<symbol, HandleOwner | undefined>)[ownerSymbol] : undefined;
}

function symbolOf(owner: object, name: string): symbol | undefined {
  return Object.getOwnPropertySymbols(owner).find(({ description }) => description === name);
}

function kindOf(handle: Handle): Kind | 'server' | undefined {
  switch (handle.constructor.name) {
    case 'TCP': {
      const owner = ownerOf(handle);
      return owner && 'listen' in owner ? 'server' : 'socket';
    }
    case 'TLSWrap':
      return 'tls';
    case 'Pipe': {
      const owner = ownerOf(handle);
      return owner && 'listen' in owner ? 'server' : 'pipe';
    }
    case 'Process':
      return 'process';
    case 'MessagePort':
      return 'port';
    default:
      return undefined;
  }
}
