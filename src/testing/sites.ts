/** Places in the user's code: where a timer was set or real work was begun, for reports. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Below the user's code stand Node's frames and ours, more than the usual ten. */
const mostFrames = 30;
/** This package's own files. */
const own = fileURLToPath(new URL('..', import.meta.url));

/** The stack here. It is read only when a report needs it. */
export function siteOf(what: string): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = mostFrames;
  const site = new Error(what);
  Error.stackTraceLimit = limit;
  return site;
}

interface Frame {
  /** `name (path:line:column)`, the path relative to the working directory. */
  readonly text: string;
  readonly path: string;
}

/** The frames of a stack that are neither Node's nor ours. */
function framesOf(site: Error | undefined): Frame[] {
  const frames: Frame[] = [];
  for (const line of (site?.stack ?? '').split('\n')) {
    const match = /^\s*at (?:(.*) \()?(.+?):(\d+):(\d+)\)?$/.exec(line);
    if (!match) continue;
    const [, name, place = '', row, column] = match;
    const path = pathOf(place.replace(/^async /, ''));
    if (path.startsWith('node:') || path.startsWith(own)) continue;
    const at = `${shown(path)}:${row}:${column}`;
    frames.push({ text: name === undefined ? at : `${name.replace(/^async /, '')} (${at})`, path });
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

function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short === '' || short.startsWith('..') ? path : short;
}

const isLibrary = ({ path }: Frame) => /[\\/]node_modules[\\/]/.test(path);

/** The first frame of a stack that is the user's: not Node's, not ours, not a dependency's. */
export function where(site: Error | undefined): string {
  const frames = framesOf(site);
  return (frames.find((frame) => !isLibrary(frame)) ?? frames[0])?.text ?? 'an unknown place';
}

/** True if it was not Node itself that set a timer, a socket's for one. */
export function isUsersTimer(site: Error): boolean {
  const places = (site.stack ?? '').split('\n').map((line) => /^\s*at (?:.* \()?(.+?):\d+:\d+\)?$/.exec(line)?.[1]);
  const from = places.findLastIndex((place) => place !== undefined && /^node:(internal\/)?timers/.test(place));
  const caller = places.slice(from + 1).find((place) => place !== undefined);
  return from >= 0 && caller !== undefined && !caller.startsWith('node:');
}

/** True if the innermost frame is the user's: what called is not a dependency. */
export function isUsers(site: Error | undefined): boolean {
  const [innermost] = framesOf(site);
  return innermost !== undefined && !isLibrary(innermost);
}
