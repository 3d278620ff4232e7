import type { Board } from '../board.ts';

/** What a suite does with a board, by what it shows. Each leaves no pod behind, or `clear` ends it. */
export type Cases = Readonly<Record<string, (board: Board) => Promise<void>>>;
