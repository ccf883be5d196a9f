/** Turns flows into parts: which jobs there are, which others each one waits for, and which values make up its input. */
import { takesInput } from '../core/definition.ts';
import { show } from '../core/duration.ts';
import { InputError, WorkflowError } from '../core/errors.ts';
import type { Fill, Shape } from '../core/workflow.ts';
import type { TaskHandle } from '../task.ts';
import type { Flow, PartHandle, Piece, WorkflowBuilder } from './flow.ts';
import { type PartOptions, readPartOptions, SignatureOf } from './signature.ts';

/** The value of a piece: the value of a part, a property of one, or a list. */
type Source = Node | Property | readonly Source[];
interface Property {
  readonly node: Source;
  readonly path: readonly (string | number)[];
}

/** A part of a workflow. */
export interface Node {
  readonly handle: TaskHandle<unknown, unknown>;
  readonly key: string;
  readonly options: PartOptions<unknown>;
  /** The input, with null in place of each value; undefined if there is none. */
  readonly input: unknown;
  /** The parts that it waits for, in the order of its edges. */
  readonly parents: readonly Node[];
  readonly fill: Fill;
}

interface OpenNode extends Node {
  key: string;
  input: unknown;
  parents: OpenNode[];
  fill: Fill;
}

/** The parts of a flow, parents before children, and the positions of the values that it returns. */
export interface Graph {
  readonly nodes: readonly Node[];
  /** The parts that no other part waits for. */
  readonly exits: readonly Node[];
  /** The flow's value, expressed in values of its parts by position. */
  readonly output: Shape;
}

/** @throws WorkflowError if parts depend on each other in a cycle, or if two have the same key */
export function graphOf(flow: Piece): Graph {
  const compiler = new Compiler();
  const output = compiler.add(flow, undefined, []);
  const nodes = inOrder(compiler.nodes);
  nameAll(nodes);
  const waitedFor = new Set(nodes.flatMap(({ parents }) => parents));
  const exits = nodes.filter((node) => !waitedFor.has(node));
  const places = new Map(nodes.map((node, place) => [node, place]));
  return { nodes, exits, output: shapeOf(output, (node) => places.get(node) as number) };
}

class Compiler {
  readonly nodes: OpenNode[] = [];

  /**
   * @param before what the piece receives and waits for; undefined: nothing
   * @param after parts that it only waits for
   */
  add(piece: Piece, before: Source | undefined, after: readonly OpenNode[]): Source {
    if (piece instanceof SignatureOf) return this.#addNode(piece.handle, piece.input, piece.options, before, after);
    if (typeof piece === 'function') return this.#addNode(piece as unknown as TaskHandle<unknown, unknown>, undefined, {}, before, after);
    const { shape } = piece as Flow;
    if (shape.kind === 'graph') return this.#graph(shape.build, before, after);
    if (shape.kind === 'group') return shape.parts.map((part) => this.add(part, before, after));
    let source = before;
    for (const part of shape.parts) {
      const first = this.nodes.length;
      source = this.add(part, source, after);
      // An empty group in a chain: the next piece still waits for the previous one.
      if (this.nodes.length === first && before !== undefined && leaves(source).length === 0) after = [...after, ...leaves(before)];
    }
    return source as Source;
  }

  #addNode(
    handle: TaskHandle<unknown, unknown>,
    input: unknown,
    options: PartOptions<unknown>,
    before: Source | undefined,
    after: readonly OpenNode[],
  ): OpenNode {
    const node: OpenNode = { handle, key: '', options, input, parents: [], fill: 'none' };
    this.nodes.push(node);
    const filled = input === undefined && before !== undefined && takesInput(handle.definition) ? [{ path: [], source: before }] : [];
    this.#wait(node, filled, before, after);
    return node;
  }

  #graph(build: (builder: WorkflowBuilder) => unknown, before: Source | undefined, after: readonly OpenNode[]): Source {
    const first = this.nodes.length;
    const handles = new Map<object, Source>();
    const made = (source: Source): PartHandle => {
      const handle: PartHandle = {
        output: placeholder(source, [], 'the value of a part'),
        after: (...others) => {
          const target = leaves(source);
          for (const other of others) {
            const from = handles.get(other);
            if (from === undefined) throw new InputError(`after() takes parts of the same workflow; got ${show(other)}`);
            for (const node of target) node.parents.push(...leaves(from).filter((parent) => !node.parents.includes(parent)));
          }
          return handle;
        },
      };
      handles.set(handle, source);
      return handle;
    };
    const sources = (given: unknown): OpenNode[] => {
      if (given === undefined) return [];
      if (!Array.isArray(given)) throw new InputError(`after: expected an array of parts; got ${show(given)}`);
      return given.flatMap((handle) => {
        const source = handles.get(handle as object);
        if (source === undefined) throw new InputError(`after: expected parts of the same workflow; got ${show(handle)}`);
        return leaves(source);
      });
    };
    const add = (piece: unknown, ...rest: unknown[]): PartHandle => {
      if (typeof piece !== 'function') {
        const { after: others, ...more } = (rest[0] ?? {}) as { after?: unknown };
        readPartOptions(more, 'add() of a workflow with an input or a flow');
        if (!(piece instanceof SignatureOf) && !('shape' in Object(piece)))
          throw new InputError(`add() takes a task, a task with an input, or a workflow; got ${show(piece)}`);
        return made(this.add(piece as Piece, before, [...after, ...sources(others)]));
      }
      const task = piece as unknown as TaskHandle<unknown, unknown>;
      const [input, given] = rest;
      const options = readPartOptions(given, `add() of ${task.name}`, ['after']) as PartOptions<unknown> & { after?: unknown };
      const node: OpenNode = { handle: task, key: '', options, input, parents: [], fill: 'none' };
      const found: { path: (string | number)[]; source: Source }[] = [];
      node.input = input === undefined ? undefined : withoutValues(input, [], found);
      this.nodes.push(node);
      if (input === undefined && before !== undefined && takesInput(task.definition)) found.push({ path: [], source: before });
      this.#wait(node, found, before, [...after, ...sources(options.after)]);
      return made(node);
    };
    const returned = build({ add: add as WorkflowBuilder['add'] });
    if (returned instanceof Promise)
      throw new InputError(
        'the function passed to workflow() is async or returns a promise; add parts without await: their values are only available when they run',
      );
    if (returned !== undefined && !handles.has(returned as object))
      throw new InputError(`the function passed to workflow() must return a part from add(), or nothing; got ${show(returned)}`);
    if (returned !== undefined) return handles.get(returned as object) as Source;
    const own = this.nodes.slice(first);
    const waitedFor = new Set(own.flatMap(({ parents }) => parents));
    return own.filter((node) => !waitedFor.has(node));
  }

  /** Sets what a part waits for: first the parts that fill its input, then the parts before it, then the others. */
  #wait(
    node: OpenNode,
    found: readonly { readonly path: readonly (string | number)[]; readonly source: Source }[],
    before: Source | undefined,
    after: readonly OpenNode[],
  ): void {
    const all = [...found.flatMap(({ source }) => leaves(source)), ...(before === undefined ? [] : leaves(before)), ...after];
    node.parents = [...new Set(all)];
    if (found.length === 0) return;
    const places = new Map(node.parents.map((parent, place) => [parent, place]));
    const edge = (parent: OpenNode) => places.get(parent) as number;
    const [only] = found;
    if (found.length === 1 && only && only.path.length === 0) {
      const shape = shapeOf(only.source, edge);
      if (shape === 0) node.fill = 'first';
      else if (JSON.stringify(shape) === JSON.stringify(node.parents.map((_, place) => place))) node.fill = 'all';
      else node.fill = [{ path: [], from: shape }];
      if (node.parents.length === 0) {
        // The value of an empty group.
        node.fill = 'none';
        node.input = [];
      }
    } else node.fill = found.map(({ path, source }) => ({ path, from: shapeOf(source, edge) }));
  }
}

function isProperty(source: Source): source is Property {
  return !Array.isArray(source) && 'node' in source;
}

/** The parts whose values make up a source. */
function leaves(source: Source | undefined): OpenNode[] {
  if (source === undefined) return [];
  if (Array.isArray(source)) return (source as readonly Source[]).flatMap(leaves);
  return isProperty(source as Source) ? leaves((source as Property).node) : [source as OpenNode];
}

function shapeOf(source: Source, place: (node: OpenNode) => number): Shape {
  if (Array.isArray(source)) return (source as readonly Source[]).map((one) => shapeOf(one, place));
  if (!isProperty(source as Source)) return place(source as OpenNode);
  const { node, path } = source as Property;
  if (path.length === 0) return shapeOf(node, place);
  if (!Array.isArray(node)) return { edge: place(node as OpenNode), path };
  // A property of a group's value is one of its parts, by index.
  const [first, ...rest] = path;
  const one = (node as readonly Source[])[Number(first)];
  if (one === undefined) throw new InputError(`the output of a group of ${node.length} has no ${show(first)}`);
  return shapeOf({ node: one, path: rest }, place);
}

const source: unique symbol = Symbol('escapement.source');

/** Stands for a value that is not available yet. */
function placeholder(node: Source, path: readonly (string | number)[], what: string): never {
  const refuse = () => {
    throw new InputError(`${what} is not available yet: you can only pass it, or a property of it, in the input of another part`);
  };
  return new Proxy(refuse, {
    get: (_, key) => {
      if (key === source) return { node, path };
      if (typeof key === 'symbol' || key === 'toJSON' || key === 'then') return refuse();
      return placeholder(node, [...path, /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key], what);
    },
    apply: refuse,
  }) as never;
}

function sourceOf(value: unknown): Source | undefined {
  if (typeof value !== 'function') return undefined;
  try {
    return (value as { [source]?: Source })[source];
  } catch {
    return undefined;
  }
}

function isHandle(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { output, after } = value as Partial<PartHandle>;
  return typeof after === 'function' && sourceOf(output) !== undefined;
}

/** A copy of an input with null in place of each value that is not available yet. */
function withoutValues(
  value: unknown,
  path: readonly (string | number)[],
  found: { path: (string | number)[]; source: Source }[],
): unknown {
  const from = sourceOf(value);
  if (from !== undefined) {
    found.push({ path: [...path], source: from });
    return null;
  }
  if (isHandle(value)) {
    const at = path.length === 0 ? '' : ` at ${path.join('.')}`;
    throw new InputError(`the input of a part holds another part${at}; pass its value instead, as in photo.output`);
  }
  if (Array.isArray(value)) return value.map((part, i) => withoutValues(part, [...path, i], found));
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, withoutValues(part, [...path, key], found)]));
}

/** Parents before children; otherwise in the order in which they were added. */
function inOrder(nodes: readonly OpenNode[]): readonly OpenNode[] {
  const placed = new Set<OpenNode>();
  const ordered: OpenNode[] = [];
  for (const start of nodes) {
    // Not recursive, because a chain may be thousands of parts long.
    const path: { readonly node: OpenNode; next: number }[] = placed.has(start) ? [] : [{ node: start, next: 0 }];
    const on = new Set(path.map(({ node }) => node));
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const parent = top.node.parents[top.next];
      top.next += 1;
      if (parent === undefined) {
        placed.add(top.node);
        ordered.push(top.node);
        on.delete(top.node);
        path.pop();
      } else if (on.has(parent)) {
        nameAll(nodes);
        const circle = path.slice(path.findIndex(({ node }) => node === parent)).map(({ node }) => node.key);
        throw new WorkflowError(`parts of the workflow wait for each other: ${[...circle, circle[0]].reverse().join(' → ')}`);
      } else if (!placed.has(parent)) {
        on.add(parent);
        path.push({ node: parent, next: 0 });
      }
    }
  }
  return ordered;
}

function nameAll(nodes: readonly OpenNode[]): void {
  const given = new Set<string>();
  for (const { options } of nodes) {
    if (options.key === undefined) continue;
    if (given.has(options.key)) throw new WorkflowError(`two parts of the workflow have the key ${options.key}`);
    given.add(options.key);
  }
  const counts = new Map<string, number>();
  for (const node of nodes) {
    if (node.options.key !== undefined) {
      node.key = node.options.key;
      continue;
    }
    const { name } = node.handle;
    do {
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      node.key = count === 1 ? name : `${name}#${count}`;
    } while (given.has(node.key));
  }
}
