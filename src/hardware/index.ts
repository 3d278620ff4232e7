/** All sources of facts about the board, in the order in which they are shown. */
import { board } from './board.ts';
import { clock } from './clock.ts';
import { clockSpeed } from './clock-speed.ts';
import { diskSpace } from './disk-space.ts';
import { fileSystemErrors } from './file-system-errors.ts';
import { link } from './link.ts';
import { memory } from './memory.ts';
import { readOnly } from './read-only.ts';
import { reset } from './reset.ts';
import type { HardwareSource } from './source.ts';
import { storageIdentity } from './storage-identity.ts';
import { temperature } from './temperature.ts';
import { throttling } from './throttling.ts';
import { underVoltage } from './under-voltage.ts';
import { wear } from './wear.ts';

export const SOURCES: readonly HardwareSource[] = [
  board,
  underVoltage,
  throttling,
  temperature,
  clockSpeed,
  storageIdentity,
  wear,
  fileSystemErrors,
  readOnly,
  diskSpace,
  memory,
  clock,
  link,
  reset,
];
