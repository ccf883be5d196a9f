/** Draws who enqueued what: jobs below the jobs that enqueued them, and the parts of each workflow together. Pure. */

/** A job of a tree. */
export interface TreeItem {
  readonly id: string;
  readonly text: string;
  readonly enqueuedBy: string | null;
  readonly workflow: string | null;
}

export interface TreeLine {
  /** Lines and blanks that lead to the text. */
  readonly lead: string;
  readonly text: string;
  /** The job; null: the title of a workflow. */
  readonly id: string | null;
}

type Entry<Item> = { readonly item: Item } | { readonly workflow: string; readonly parts: readonly Item[] };

/**
 * The lines of the tree.
 * @param items jobs in the order in which they were enqueued; a job whose `enqueuedBy` is not among them is a root
 * @param title of a workflow, from its parts
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

  /** Jobs side by side; the parts of a workflow stand below its title, in the place of the first of them. */
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

/** True if a part of a workflow has the key that it gets without being asked: the name of its task, numbered where it repeats. */
export function isUsualPart(key: string, task: string): boolean {
  return key === task || (key.startsWith(`${task}#`) && /^\d+$/.test(key.slice(task.length + 1)));
}
