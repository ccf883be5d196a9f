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
}

const key = Symbol.for('escapement.applications');
const shared = globalThis as { [key]?: Live };
shared[key] ??= { applications: new Map(), created: 0 };
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
 * @param sources what its jobs are kept in: two applications of one module differ in it
 * @param stack of the call of `createTasks`, from its caller on
 */
export function identityOf(name: string | undefined, sources: string, stack: string): Identity | undefined {
  live.created += 1;
  if (name !== undefined) return { name, given: true, order: live.created };
  const path = topLevelModuleOf(stack);
  return path === undefined ? undefined : { name: `${path} ${sources}`, given: false, order: live.created };
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

/** The path of the module whose own code, outside of any function, is at the top of a stack; undefined: a function is, which may be called often. */
function topLevelModuleOf(stack: string): string | undefined {
  const [caller = '', below = ''] = stack.split('\n');
  const [, path] =
    /^ +at (?:async )?(?:(?:eval|Object\.<anonymous>|Module\.eval|<anonymous>) \()?((?:file:|\/|[A-Za-z]:\\|webpack)[^()]*?):\d+:\d+\)?$/.exec(
      caller,
    ) ?? [];
  return path !== undefined && evaluators.test(below) ? path.replace(/[?#].*$/, '') : undefined;
}
