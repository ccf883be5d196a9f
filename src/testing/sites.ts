/** Locations in the user's code, for reports: where a timer was set or real work was started. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The user's code may be below many frames of Node.js and this package, more than the default ten. */
const maxFrames = 30;
/** Timers are frequent, and are set close to the user's code. */
export const framesOfTimers = 14;
/** Real work is started deeper inside libraries. */
export const framesOfRequests = 20;
/** The folder of this package. In a CommonJS bundle without import.meta.url, its files cannot be told from the user's. */
const own = (import.meta.url as string | undefined) === undefined ? '\0' : fileURLToPath(new URL('..', import.meta.url));

/** Captures the current stack. It is only formatted when a report needs it. */
export function siteOf(what: string, frames = maxFrames): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = frames;
  const site = new Error(what);
  Error.stackTraceLimit = limit;
  return site;
}

interface Frame {
  /** The function, if it has a name. */
  readonly name: string | undefined;
  readonly path: string;
  /** `line:column` */
  readonly place: string;
}

function framesOf(site: Error | undefined): Frame[] {
  const frames: Frame[] = [];
  for (const line of (site?.stack ?? '').split('\n')) {
    const match = /^\s*at (?:(.*) \()?(.+?):(\d+:\d+)\)?$/.exec(line);
    if (!match) continue;
    const [, name, path = '', place = ''] = match;
    frames.push({ name: name?.replace(/^async /, ''), path: pathOf(path.replace(/^async /, '')), place });
  }
  return frames;
}

function pathOf(place: string): string {
  try {
    return place.startsWith('file:') ? fileURLToPath(place) : place;
  } catch {
    return place;
  }
}

const isNodes = ({ path }: Frame) => path.startsWith('node:');
const isOurs = ({ path }: Frame) => path.startsWith(own);
/** Node.js has dependencies too: undici, which implements fetch. */
const isLibrary = ({ path }: Frame) => /[\\/]node_modules[\\/]/.test(path) || path.startsWith('node:internal/deps/');
/** The timer functions that user code calls. */
const isReplacement = ({ path }: Frame) =>
  /[\\/]testing[\\/](virtual-)?(globals|timers-promises)\.[jt]s$/.test(path) && path.startsWith(own);

/**
 * The first frame of a stack that belongs to the user: not to Node.js, this package or a dependency. The path is relative to the working
 * directory.
 */
export function where(site: Error | undefined): string {
  const frames = framesOf(site).filter((frame) => !isNodes(frame) && !isOurs(frame));
  const frame = frames.find((one) => !isLibrary(one)) ?? frames[0];
  if (!frame) return 'an unknown place';
  const short = relative(process.cwd(), frame.path);
  const at = `${short === '' || short.startsWith('..') ? frame.path : short}:${frame.place}`;
  return frame.name === undefined ? at : `${frame.name} (${at})`;
}

/** True if the user's own code set a timer, as opposed to a dependency or Node.js. */
export function isUserCode(site: Error | undefined): boolean {
  if (!site) return false;
  const known = users.get(site);
  if (known !== undefined) return known;
  const answer = isUserStack(site);
  users.set(site, answer);
  return answer;
}

const users = new WeakMap<Error, boolean>();

function isUserStack(site: Error): boolean {
  const frames = framesOf(site);
  const last = frames.findLastIndex((frame, i) => isReplacement(frame) && frames.slice(0, i).every((one) => isOurs(one) || isNodes(one)));
  const caller = last >= 0 ? frames[last + 1] : frames.find((frame) => !isOurs(frame) && (!isNodes(frame) || isLibrary(frame)));
  return caller !== undefined && !isNodes(caller) && !isLibrary(caller);
}

/** True unless Node.js itself set a real timer, for example for a socket. */
export function isUsersTimer(site: Error): boolean {
  const frames = framesOf(site);
  const last = frames.findLastIndex(({ path }) => /^node:(internal\/)?timers/.test(path));
  const caller = last >= 0 ? frames[last + 1] : undefined;
  return caller !== undefined && !isNodes(caller);
}
