/**
 * Loads the user's module and finds its exports: the application that createTasks returned, under any name, and the `simulation` of
 * `escapement simulate`. Every failure has a message that says what to do.
 */
import { readFileSync, statSync } from 'node:fs';
import { basename, isAbsolute, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Instant, isEscapementError, type Tasks } from 'escapement';
import type { Simulation } from 'escapement/testing';
import { clean, cleanLines } from './format.ts';
import { CommandError, type Io, orStuck } from './io.ts';

/** The `simulation` export of a module. */
export interface SimulationModule {
  /** The instant at which virtual time begins. @default '2026-01-01T00:00:00Z' */
  now?: Instant;
  /** How long to play. @default '7d' */
  for?: string | number;
  workers?: number;
  concurrency?: number;
  seed?: number;
  /** Drives the application from outside through `sim`. It is stopped at the end of the period. */
  play?(sim: Simulation): unknown;
  /** Checks the result at the end of the period, and throws if something is wrong. */
  expect?(sim: Simulation): unknown;
}

export interface Application {
  /** The displayed path of the module, relative to the working directory. */
  readonly label: string;
  readonly tasks: Tasks;
  readonly simulation: SimulationModule;
  /** All exports of the module. */
  readonly exported: Readonly<Record<string, unknown>>;
}

const simulationKeys = ['now', 'for', 'workers', 'concurrency', 'seed', 'play', 'expect'];

/** The default paths of the module, in order. */
export const moduleNames = ['', 'src/'].flatMap((folder) => ['ts', 'mts', 'js', 'mjs'].map((end) => `${folder}tasks.${end}`));

/**
 * The default module of commands: the path in the `escapement` key of package.json, otherwise `tasks.ts` or `src/tasks.ts`. Undefined if
 * there is none.
 * @throws CommandError if the key is not a path
 */
export function defaultModule(cwd: string): string | undefined {
  const named = packageKey(cwd);
  if (named === undefined) return moduleNames.find((name) => statSync(resolve(cwd, name), { throwIfNoEntry: false })?.isFile());
  if (typeof named === 'string' && named !== '') return named;
  throw new CommandError(`package.json: escapement must be the path of a module, such as "src/tasks.ts"`);
}

function packageKey(cwd: string): unknown {
  try {
    return (JSON.parse(readFileSync(resolve(cwd, 'package.json'), 'utf8')) as { escapement?: unknown } | null)?.escapement;
  } catch {
    // There is no package.json, or it is invalid, which Node itself reports.
    return undefined;
  }
}

/** @throws CommandError if the module cannot be loaded or used */
export async function loadApplication(path: string, io: Io): Promise<Application> {
  const file = resolve(io.cwd, path);
  const label = labelOf(file, io.cwd);
  const kind = statSync(file, { throwIfNoEntry: false });
  if (!kind) throw new CommandError(`there is no file ${label}; give the path of the module that calls createTasks()`);
  if (kind.isDirectory()) throw new CommandError(`${label} is a directory; give the path of the module in it that calls createTasks()`);
  const stuck = `${label} never finishes loading: a top-level await never settles`;
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
  // Node puts the location of a syntax error on the first line of the stack: file:///app/tasks.ts:12
  const place = /^(?:file:\/\/)?\S*?([^/\s]+:\d+)\r?\n/.exec(unversioned(stack ?? ''))?.[1];
  const where =
    place && !label.endsWith(place.replace(/:\d+$/, '')) ? `${label}, at ${place},` : place ? label + place.replace(/^.*:/, ':') : label;
  if (name === 'SyntaxError' && /outside a module/.test(text))
    return `${label} is an ES module, but its package.json says otherwise: set "type": "module" there (npm pkg set type=module), or name it .mts`;
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX')
    return `${where} uses TypeScript that Node cannot strip (enum, namespace, parameter property): ${text}`;
  if (code === 'ERR_INVALID_TYPESCRIPT_SYNTAX' || name === 'SyntaxError') {
    return `${where} cannot be parsed: ${text}${place ? '' : `; run node ${label} to see where`}`;
  }
  if (code === 'ERR_MODULE_NOT_FOUND') return `${label} imports a module that cannot be found: ${text}`;
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION') return `${label} is not a module that Node can load; give a .ts, .mts, .js or .mjs file`;
  if (isEscapementError(error)) return `${label}: ${text}`;
  return `${label} threw while it was loaded: ${name ? `${name}: ` : ''}${text}`;
}

/** Removes the version that `escapement dev` adds to a file's URL. */
export function unversioned(text: string): string {
  return text.replace(/\?escapement=\d+/g, '');
}

/** The only application among the exports, which may be exported under several names. */
function findTasks(exported: Record<string, unknown>, label: string): Tasks {
  const found = new Map<unknown, string>();
  for (const [name, value] of Object.entries(exported)) if (isTasks(value) && !found.has(value)) found.set(value, name);
  const [first, ...others] = found.keys();
  if (!first) throw new CommandError(`${label} exports no application: export const tasks = createTasks(…)`);
  if (others.length > 0) {
    throw new CommandError(
      `${label} exports several applications (${[...found.values()].map(clean).join(', ')}): export only one, or give a module that re-exports one of them`,
    );
  }
  return first as Tasks;
}

/** Recognizes an application by its shape. If `simulate` then refuses it, another copy of the package created it. */
function isTasks(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { define, schedule, worker, names } = value as Partial<Tasks>;
  return typeof define === 'function' && typeof schedule === 'function' && typeof worker === 'function' && Array.isArray(names);
}

/** The message for an application without tasks; undefined if it has tasks. */
export function withoutTasks({ tasks, label }: Pick<Application, 'tasks' | 'label'>): string | undefined {
  return tasks.names.length > 0
    ? undefined
    : `${label} defines no tasks: call tasks.define('name', …) in it, or import the modules that do`;
}

function readSimulation(value: unknown, label: string): SimulationModule {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null) {
    throw new CommandError(`${label}: simulation must be an object such as { now, for, workers, play(sim) {…}, expect(sim) {…} }`);
  }
  for (const key of Object.keys(value)) {
    if (simulationKeys.includes(key)) continue;
    throw new CommandError(`${label}: simulation.${clean(key)} is unknown; the keys are ${simulationKeys.join(', ')}`);
  }
  const given = value as SimulationModule;
  for (const key of ['play', 'expect'] as const) {
    if (given[key] !== undefined && typeof given[key] !== 'function')
      throw new CommandError(`${label}: simulation.${key} must be a function that takes the simulation`);
  }
  return given;
}

function labelOf(file: string, cwd: string): string {
  const path = relative(cwd, file);
  if (path === '') return '.';
  return clean(path.startsWith('..') || isAbsolute(path) ? basename(file) : path.replaceAll('\\', '/'));
}
