/** The memory store's workflow edges, indexed from both ends. */
import type { Edge, Edges } from '../../core/workflow.ts';

interface Kept extends Edge {
  /** The parent's value, once the parent has ended in a way that lets the child proceed. */
  value: string | null;
}

export class MemoryEdges {
  readonly #toParents = new Map<string, Kept[]>();
  readonly #toChildren = new Map<string, Kept[]>();
  /** The number of edges to each child that are not done. */
  readonly #open = new Map<string, number>();

  add({ parent, child }: Edge): void {
    const edge: Kept = { parent, child, value: null };
    append(this.#toParents, child, edge);
    append(this.#toChildren, parent, edge);
    this.#count(child, 1);
  }

  #count(child: string, change: number): void {
    this.#open.set(child, (this.#open.get(child) ?? 0) + change);
  }

  isWaiting(child: string): boolean {
    return (this.#open.get(child) ?? 0) > 0;
  }

  of(id: string): Edges {
    const parents = this.#toParents.get(id) ?? [];
    return { parents: parents.map(({ parent }) => parent), children: this.children(id) };
  }

  children(parent: string): readonly string[] {
    return [...new Set((this.#toChildren.get(parent) ?? []).map(({ child }) => child))];
  }

  values(child: string): readonly string[] {
    return (this.#toParents.get(child) ?? []).map(({ value }) => value ?? 'null');
  }

  /** Sets the parent's value; null if it has none yet. */
  give(parent: string, child: string, value: string | null): void {
    for (const edge of this.#toParents.get(child) ?? []) {
      if (edge.parent !== parent) continue;
      this.#count(child, Number(edge.value !== null) - Number(value !== null));
      edge.value = value;
    }
  }

  /** Removes the edges of a deleted child. */
  forget(child: string): void {
    for (const { parent } of this.#toParents.get(child) ?? []) {
      const left = (this.#toChildren.get(parent) ?? []).filter((edge) => edge.child !== child);
      if (left.length > 0) this.#toChildren.set(parent, left);
      else this.#toChildren.delete(parent);
    }
    this.#toParents.delete(child);
    this.#open.delete(child);
  }
}

function append(map: Map<string, Kept[]>, key: string, edge: Kept): void {
  const existing = map.get(key);
  if (existing) existing.push(edge);
  else map.set(key, [edge]);
}
