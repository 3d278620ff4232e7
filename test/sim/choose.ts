/** Choices made with a seeded stream. */
import type { Random } from '../../src/base/random.ts';

export function chance(random: Random, probability: number): boolean {
  return random.next() < probability;
}

/** A whole number from `low` to `high`, both included. */
export function between(random: Random, low: number, high: number): number {
  return low + Math.floor(random.next() * (high - low + 1));
}

export function pick<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random.next() * list.length)]!;
}
