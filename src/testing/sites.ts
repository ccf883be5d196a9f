/** Places in the user's code: where a timer was set or real work was begun, for reports. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Below the user's code stand Node's frames and ours, more than the usual ten. */
const maxFrames = 30;
/** Timers are set in great number, and not far from the code that asks. */
export const framesOfTimers = 14;
/** Real work is begun deeper within libraries. */
export const framesOfRequests = 20;
/** This package's own files. In a CommonJS bundle, which has no import.meta.url, they cannot be told from the user's. */
const own = (import.meta.url as string | undefined) === undefined ? '\0' : fileURLToPath(new URL('..', import.meta.url));

/** The stack here. It is read only when a report needs it. */
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
/** Node has dependencies too: undici, which is fetch. */
const isLibrarys = ({ path }: Frame) => /[\\/]node_modules[\\/]/.test(path) || path.startsWith('node:internal/deps/');
/** Where a timer function stands that others call. */
const isStandIn = ({ path }: Frame) => /[\\/]testing[\\/](virtual-)?(globals|timers-promises)\.[jt]s$/.test(path) && path.startsWith(own);

/** The first frame of a stack that is the user's: not Node's, not ours, not a dependency's. The path is relative to the working directory. */
export function where(site: Error | undefined): string {
  const frames = framesOf(site).filter((frame) => !isNodes(frame) && !isOurs(frame));
  const frame = frames.find((one) => !isLibrarys(one)) ?? frames[0];
  if (!frame) return 'an unknown place';
  const short = relative(process.cwd(), frame.path);
  const at = `${short === '' || short.startsWith('..') ? frame.path : short}:${frame.place}`;
  return frame.name === undefined ? at : `${frame.name} (${at})`;
}

/** True if it was the user's own code that set a timer: neither a dependency nor Node. */
export function isUsers(site: Error | undefined): boolean {
  if (!site) return false;
  const known = users.get(site);
  if (known !== undefined) return known;
  const answer = isUsersStack(site);
  users.set(site, answer);
  return answer;
}

const users = new WeakMap<Error, boolean>();

function isUsersStack(site: Error): boolean {
  const frames = framesOf(site);
  const last = frames.findLastIndex((frame, i) => isStandIn(frame) && frames.slice(0, i).every((one) => isOurs(one) || isNodes(one)));
  const caller = last >= 0 ? frames[last + 1] : frames.find((frame) => !isOurs(frame) && (!isNodes(frame) || isLibrarys(frame)));
  return caller !== undefined && !isNodes(caller) && !isLibrarys(caller);
}

/** True if it was not Node itself that set a real timer, a socket's for one. */
export function isUsersTimer(site: Error): boolean {
  const frames = framesOf(site);
  const last = frames.findLastIndex(({ path }) => /^node:(internal\/)?timers/.test(path));
  const caller = last >= 0 ? frames[last + 1] : undefined;
  return caller !== undefined && !isNodes(caller);
}
