/** What is going to happen: closures by simulated time, ties in the order of their scheduling. */

export type Entry = { atMs: number; order: number; run: (() => void) | undefined };

export class Queue {
  #heap: Entry[] = [];
  #order = 0;

  get size(): number {
    return this.#heap.length;
  }

  push(atMs: number, run: () => void): Entry {
    const entry = { atMs, order: this.#order++, run };
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up]!;
      if (!isBefore(entry, parent)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = entry;
    return entry;
  }

  /** Takes the next entry that was not called off; undefined when there is none until `untilMs`. */
  pop(untilMs = Number.POSITIVE_INFINITY): Entry | undefined {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > untilMs) return undefined;
      this.#take();
      if (first.run !== undefined) return first;
    }
  }

  #take(): void {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs !== b.atMs ? a.atMs < b.atMs : a.order < b.order;
}

export function callOff(entry: Entry | undefined): void {
  if (entry !== undefined) entry.run = undefined;
}
