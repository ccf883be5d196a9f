/**
 * Keeps one live application per name in a process. If a module is evaluated again, for example by a dev server, it creates its application
 * again; the workers of the previous one then stop, so that only the newest code runs. Shared by all copies of the package.
 */

/** An application as other applications with its name see it. */
export interface Application {
  /** Stops its workers: they claim no more jobs and let attempts end. */
  stopWorkers(): void;
  /** True if its name was passed explicitly and now belongs to another application. */
  replaced: boolean;
}

interface Live {
  readonly applications: Map<string, { readonly application: Application; readonly order: number }>;
  created: number;
  /** The evaluation in which the last applications without an explicit name were created. */
  readonly evaluations: Map<string, Evaluation>;
  /** Shared by code that runs in the same synchronous turn. */
  turn: object | undefined;
}

/** One evaluation of a module, and the positions in it at which otherwise identical applications were created. */
interface Evaluation {
  readonly of: unknown;
  readonly positions: string[];
}

const key = Symbol.for('escapement.applications');
const shared = globalThis as { [key]?: Live };
shared[key] ??= { applications: new Map(), created: 0, evaluations: new Map(), turn: undefined };
const live: Live = shared[key];

/** Identifies an application: by its explicit name, or by the module that created it. */
export interface Identity {
  readonly name: string;
  /** False: the name was derived, and only applies among applications that run workers. */
  readonly given: boolean;
  readonly order: number;
}

/**
 * @param name as passed to `createTasks`
 * @param sources the stores of its jobs
 * @param stack of the call of `createTasks`, starting at the caller
 */
export function identityOf(name: string | undefined, sources: string, stack: string): Identity | undefined {
  live.created += 1;
  if (name !== undefined) return { name, given: true, order: live.created };
  const module = topLevelModuleOf(stack);
  if (!module) return undefined;
  const like = `${module.path} ${sources}`;
  const before = countBefore(like, module);
  return { name: before === 0 ? like : `${like} ${before + 1}`, given: false, order: live.created };
}

/** Number of identical applications that the same evaluation of the module created before; these are meant to exist side by side. */
function countBefore(like: string, { url, position, once }: Module): number {
  // Node.js evaluates a URL once. Other runners start a new evaluation when they reach a later turn, or a position that they have already passed.
  const of = once ? url : turn();
  let evaluation = live.evaluations.get(like);
  if (evaluation?.of !== of || (!once && evaluation.positions.includes(position))) {
    evaluation = { of, positions: [] };
    live.evaluations.set(like, evaluation);
  }
  return evaluation.positions.push(position) - 1;
}

function turn(): object {
  if (!live.turn) {
    live.turn = {};
    void Promise.resolve().then(() => {
      live.turn = undefined;
    });
  }
  return live.turn;
}

/** Makes this the live application of its name; the workers of the previous one stop. */
export function takePlace(identity: Identity, application: Application): void {
  const former = live.applications.get(identity.name);
  if (former && (former.application === application || former.order > identity.order)) return;
  live.applications.set(identity.name, { application, order: identity.order });
  if (!former) return;
  former.application.replaced = identity.given;
  former.application.stopWorkers();
}

/** Frees the name if this is its live application. */
export function leavePlace(identity: Identity, application: Application): void {
  if (live.applications.get(identity.name)?.application === application) live.applications.delete(identity.name);
}

/** Stack frames of module evaluation: Node.js loaders, and the runners of Vite and bundlers. */
const evaluators =
  /node:internal\/modules\/|Module\._compile|ModuleRunner|runInlinedModule|ModulesEvaluator|__webpack_require__|__turbopack/;

/** A module that creates an application at its top level, outside any function. */
interface Module {
  readonly path: string;
  readonly url: string;
  /** Line and column. */
  readonly position: string;
  /** True: it is never evaluated again under this URL. */
  readonly once: boolean;
}

/** The module whose top-level code is at the top of a stack; undefined if it is a function, which may be called repeatedly. */
function topLevelModuleOf(stack: string): Module | undefined {
  const [caller = '', below = ''] = stack.split('\n');
  const [, url, position = ''] =
    /^ +at (?:async )?(?:(?:eval|Object\.<anonymous>|Module\.eval|<anonymous>) \()?((?:file:|\/|[A-Za-z]:\\|webpack)[^()]*?):(\d+:\d+)\)?$/.exec(
      caller,
    ) ?? [];
  if (url === undefined || !evaluators.test(below)) return undefined;
  return { path: url.replace(/[?#].*$/, ''), url, position, once: url.startsWith('file:') && /node:internal\/modules\/esm\//.test(below) };
}
