/**
 * One live application for each name in a process. A module that is evaluated again, by a dev server for example, makes its application again: the
 * workers of the former one stop, so that only the newest code runs. Shared by all copies of the package.
 */

/** What an application is, as far as others of its name need to know. */
export interface Application {
  /** Stops its workers: they claim no more, and let attempts end. */
  stopWorkers(): void;
  /** True: its name was given, and another application has it now. */
  replaced: boolean;
}

interface Live {
  readonly applications: Map<string, { readonly application: Application; readonly order: number }>;
  created: number;
  /** The evaluation in which applications that no name was given to were made last. */
  readonly evaluations: Map<string, Evaluation>;
  /** What runs at once shares it. */
  turn: object | undefined;
}

/** One evaluation of a module, and where in it applications were made that differ in nothing else. */
interface Evaluation {
  readonly of: unknown;
  readonly positions: string[];
}

const key = Symbol.for('escapement.applications');
const shared = globalThis as { [key]?: Live };
shared[key] ??= { applications: new Map(), created: 0, evaluations: new Map(), turn: undefined };
const live: Live = shared[key];

/** How an application is told from others: by the name that it was given, or by the module that made it. */
export interface Identity {
  readonly name: string;
  /** False: it was found out, and holds only among those that run workers. */
  readonly given: boolean;
  readonly order: number;
}

/**
 * @param name as given to `createTasks`
 * @param sources what its jobs are kept in
 * @param stack of the call of `createTasks`, from its caller on
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

/** How many applications like this one the same evaluation of the module has made before: they are meant to be there beside each other. */
function countBefore(like: string, { url, position, once }: Module): number {
  // Node evaluates a URL once. Others are known to evaluate again only what they come to later, or at a place that they have passed.
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

/** Makes this the live application of its name; the workers of the former one stop. */
export function takePlace(identity: Identity, application: Application): void {
  const former = live.applications.get(identity.name);
  if (former && (former.application === application || former.order > identity.order)) return;
  live.applications.set(identity.name, { application, order: identity.order });
  if (!former) return;
  former.application.replaced = identity.given;
  former.application.stopWorkers();
}

/** Makes room for another one, if this is the live application of its name. */
export function leavePlace(identity: Identity, application: Application): void {
  if (live.applications.get(identity.name)?.application === application) live.applications.delete(identity.name);
}

/** Who evaluates modules: Node's loaders, and the runners of Vite and of bundlers. */
const evaluators =
  /node:internal\/modules\/|Module\._compile|ModuleRunner|runInlinedModule|ModulesEvaluator|__webpack_require__|__turbopack/;

/** A module whose own code, outside of any function, makes an application. */
interface Module {
  readonly path: string;
  readonly url: string;
  /** Line and column. */
  readonly position: string;
  /** True: it is never evaluated again under this URL. */
  readonly once: boolean;
}

/** The module whose own code is at the top of a stack; undefined: a function is, which may be called often. */
function topLevelModuleOf(stack: string): Module | undefined {
  const [caller = '', below = ''] = stack.split('\n');
  const [, url, position = ''] =
    /^ +at (?:async )?(?:(?:eval|Object\.<anonymous>|Module\.eval|<anonymous>) \()?((?:file:|\/|[A-Za-z]:\\|webpack)[^()]*?):(\d+:\d+)\)?$/.exec(
      caller,
    ) ?? [];
  if (url === undefined || !evaluators.test(below)) return undefined;
  return { path: url.replace(/[?#].*$/, ''), url, position, once: url.startsWith('file:') && /node:internal\/modules\/esm\//.test(below) };
}
