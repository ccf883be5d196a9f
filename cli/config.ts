/**
 * Loads the user's module and finds in it what a command works with: the application that createTasks returned, under any name, and what
 * `escapement simulate` is to play. Every way in which this can fail has a sentence that says what to do.
 */
import { readFileSync, statSync } from 'node:fs';
import { basename, isAbsolute, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Instant, isEscapementError, type Tasks } from 'escapement';
import type { Simulation } from 'escapement/testing';
import { clean, cleanLines } from './format.ts';
import { CommandError, type Io, orStuck } from './io.ts';

/** What a module may export as `simulation`. */
export interface SimulationModule {
  /** Where virtual time begins. @default '2026-01-01T00:00:00Z' */
  now?: Instant;
  /** How long to play. @default '7d' */
  for?: string | number;
  workers?: number;
  concurrency?: number;
  seed?: number;
  /** What happens to the application from outside: drives `sim`, and is cut off at the end of the period. */
  play?(sim: Simulation): unknown;
  /** Throws when something is not as it ought to be. Asked at the end of the period. */
  expect?(sim: Simulation): unknown;
}

export interface Application {
  /** The module as people call it: relative to where they are. */
  readonly label: string;
  readonly tasks: Tasks;
  readonly simulation: SimulationModule;
  /** All that the module exports. */
  readonly exported: Readonly<Record<string, unknown>>;
}

const simulationKeys = ['now', 'for', 'workers', 'concurrency', 'seed', 'play', 'expect'];

/** Where a module of tasks is looked for, in this order. */
export const moduleNames = ['', 'src/'].flatMap((folder) => ['ts', 'mts', 'js', 'mjs'].map((end) => `${folder}tasks.${end}`));

/**
 * The module that a command works with where none is named: what the `escapement` key of package.json names, else `tasks.ts` or `src/tasks.ts`.
 * Undefined: there is none.
 * @throws CommandError when the key is not a path
 */
export function defaultModule(cwd: string): string | undefined {
  const named = packageKey(cwd);
  if (named === undefined) return moduleNames.find((name) => statSync(resolve(cwd, name), { throwIfNoEntry: false })?.isFile());
  if (typeof named === 'string' && named !== '') return named;
  throw new CommandError(`package.json: escapement is to be the path of a module, such as "src/tasks.ts"`);
}

function packageKey(cwd: string): unknown {
  try {
    return (JSON.parse(readFileSync(resolve(cwd, 'package.json'), 'utf8')) as { escapement?: unknown } | null)?.escapement;
  } catch {
    // Without a package.json, or with one that Node itself complains about.
    return undefined;
  }
}

/** @throws CommandError for anything that is wrong with the module */
export async function loadApplication(path: string, io: Io): Promise<Application> {
  const file = resolve(io.cwd, path);
  const label = labelOf(file, io.cwd);
  const kind = statSync(file, { throwIfNoEntry: false });
  if (!kind) throw new CommandError(`there is no file ${label}; give the path of the module that calls createTasks()`);
  if (kind.isDirectory()) throw new CommandError(`${label} is a directory; give the path of the module in it that calls createTasks()`);
  const stuck = `${label} never finishes loading: it awaits something that will not come`;
  const exported = await orStuck(io, importModule(file, label), stuck);
  return { label, tasks: findTasks(exported, label), simulation: readSimulation(exported.simulation, label), exported };
}

async function importModule(file: string, label: string): Promise<Record<string, unknown>> {
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    throw new CommandError(loadingFault(error, label), { cause: error });
  }
}

function loadingFault(error: unknown, label: string): string {
  const { code, name, message, stack } = (error ?? {}) as { code?: string; name?: string; message?: string; stack?: string };
  const text = unversioned(cleanLines(message ?? String(error)).join('\n'));
  // Node puts the place of a syntax error on the first line of the stack: file:///app/tasks.ts:12
  const place = /^(?:file:\/\/)?\S*?([^/\s]+:\d+)\r?\n/.exec(unversioned(stack ?? ''))?.[1];
  const where =
    place && !label.endsWith(place.replace(/:\d+$/, '')) ? `${label}, at ${place},` : place ? label + place.replace(/^.*:/, ':') : label;
  if (name === 'SyntaxError' && /outside a module/.test(text))
    return `${label} is an ES module, and its package.json says otherwise: set "type": "module" there (npm pkg set type=module), or name it .mts`;
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX')
    return `${where} uses TypeScript that Node cannot strip (enum, namespace, parameter property): ${text}`;
  if (code === 'ERR_INVALID_TYPESCRIPT_SYNTAX' || name === 'SyntaxError') {
    return `${where} cannot be read: ${text}${place ? '' : `; node ${label} says where`}`;
  }
  if (code === 'ERR_MODULE_NOT_FOUND') return `${label} imports what is not there: ${text}`;
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION') return `${label} is no module that Node can load; give a .ts, .mts, .js or .mjs file`;
  if (isEscapementError(error)) return `${label}: ${text}`;
  return `${label} threw while it was loaded: ${name ? `${name}: ` : ''}${text}`;
}

/** Without what `escapement dev` tells the versions of a file apart by. */
export function unversioned(text: string): string {
  return text.replace(/\?escapement=\d+/g, '');
}

/** The one application among the exports. The same one under two names is one. */
function findTasks(exported: Record<string, unknown>, label: string): Tasks {
  const found = new Map<unknown, string>();
  for (const [name, value] of Object.entries(exported)) if (isTasks(value) && !found.has(value)) found.set(value, name);
  const [first, ...others] = found.keys();
  if (!first) throw new CommandError(`${label} exports no tasks: export const tasks = createTasks(…)`);
  if (others.length > 0) {
    throw new CommandError(
      `${label} exports several applications (${[...found.values()].map(clean).join(', ')}): export one, or give a module that re-exports the one you mean`,
    );
  }
  return first as Tasks;
}

/** By its shape: another copy of the package made it if `simulate` then refuses it. */
function isTasks(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { define, schedule, worker, names } = value as Partial<Tasks>;
  return typeof define === 'function' && typeof schedule === 'function' && typeof worker === 'function' && Array.isArray(names);
}

/** What is to be said of an application without tasks; undefined: it has some. */
export function withoutTasks({ tasks, label }: Pick<Application, 'tasks' | 'label'>): string | undefined {
  return tasks.names.length > 0
    ? undefined
    : `${label} defines no tasks: call tasks.define('name', …) in it, or import the modules that do`;
}

function readSimulation(value: unknown, label: string): SimulationModule {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null) {
    throw new CommandError(`${label}: simulation is to be an object such as { now, for, workers, play(sim) {…}, expect(sim) {…} }`);
  }
  for (const key of Object.keys(value)) {
    if (simulationKeys.includes(key)) continue;
    throw new CommandError(`${label}: simulation.${clean(key)} means nothing; there are ${simulationKeys.join(', ')}`);
  }
  const given = value as SimulationModule;
  for (const key of ['play', 'expect'] as const) {
    if (given[key] !== undefined && typeof given[key] !== 'function')
      throw new CommandError(`${label}: simulation.${key} is to be a function of the simulation`);
  }
  return given;
}

function labelOf(file: string, cwd: string): string {
  const path = relative(cwd, file);
  if (path === '') return '.';
  return clean(path.startsWith('..') || isAbsolute(path) ? basename(file) : path.replaceAll('\\', '/'));
}
