/** Draws which job enqueued which: each job below the job that enqueued it, and the parts of each workflow together. Pure. */

/** A job of a tree. */
export interface TreeItem {
  readonly id: string;
  readonly text: string;
  readonly enqueuedBy: string | null;
  readonly workflow: string | null;
}

export interface TreeLine {
  /** The lines and blanks that precede the text. */
  readonly lead: string;
  readonly text: string;
  /** The job's id; null for the title of a workflow. */
  readonly id: string | null;
}

type Entry<Item> = { readonly item: Item } | { readonly workflow: string; readonly parts: readonly Item[] };

/**
 * The lines of the tree.
 * @param items jobs in enqueue order; a job whose `enqueuedBy` is not among them is a root
 * @param title returns the title of a workflow, given its parts
 */
export function treeLines<Item extends TreeItem>(items: readonly Item[], title: (parts: readonly Item[]) => string): TreeLine[] {
  const known = new Map(items.map((item) => [item.id, item]));
  const parts = Map.groupBy(
    items.filter(({ workflow }) => workflow !== null),
    ({ workflow }) => workflow,
  );
  const isBelowPart = ({ enqueuedBy, workflow }: Item) => workflow !== null && known.get(enqueuedBy ?? '')?.workflow === workflow;
  const below = Map.groupBy(items, ({ enqueuedBy, id }) =>
    enqueuedBy !== null && enqueuedBy !== id && known.has(enqueuedBy) ? enqueuedBy : null,
  );

  /** Sibling entries. The parts of a workflow are placed below its title, at the position of the first part. */
  const entries = (siblings: readonly Item[]): Entry<Item>[] => {
    const done = new Set<string>();
    return siblings.flatMap((item): Entry<Item>[] => {
      if (item.workflow === null || isBelowPart(item)) return [{ item }];
      if (done.has(item.workflow)) return [];
      done.add(item.workflow);
      return [{ workflow: item.workflow, parts: siblings.filter((one) => one.workflow === item.workflow && !isBelowPart(one)) }];
    });
  };
  const lines: TreeLine[] = [];
  const draw = (all: readonly Entry<Item>[], lead: string, isTop: boolean) => {
    for (const [i, entry] of all.entries()) {
      const isLast = i === all.length - 1;
      const own = isTop ? lead : `${lead}${isLast ? '└─ ' : '├─ '}`;
      const next = isTop ? lead : `${lead}${isLast ? '   ' : '│  '}`;
      if ('item' in entry) {
        lines.push({ lead: own, text: entry.item.text, id: entry.item.id });
        draw(entries(below.get(entry.item.id) ?? []), next, false);
      } else {
        lines.push({ lead: own, text: title(parts.get(entry.workflow) ?? entry.parts), id: null });
        draw(
          entry.parts.map((item) => ({ item })),
          next,
          false,
        );
      }
    }
  };
  draw(entries(below.get(null) ?? []), '', true);
  return lines;
}

/** True if a part of a workflow has its default key: the name of its task, numbered if it repeats. */
export function isUsualPart(key: string, task: string): boolean {
  return key === task || (key.startsWith(`${task}#`) && /^\d+$/.test(key.slice(task.length + 1)));
}
