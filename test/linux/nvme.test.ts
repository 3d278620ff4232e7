import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLibc } from '../../src/linux/libc.ts';
import { readHealthLog } from '../../src/linux/nvme.ts';

test('what is no drive has no health log, and says why', () => {
  const libc = openLibc();
  assert.ok(libc !== undefined);
  assert.throws(() => readHealthLog(libc, '/dev/nvme999'), {
    code: 'NotFound',
    message: /^can't open \/dev\/nvme999: ENOENT/,
  });
  // The kernel's own word, which can't be read: this is no drive.
  assert.throws(() => readHealthLog(libc, '/dev/null'), {
    code: 'Unknown',
    message: '/dev/null: the question for its health log is not answered',
  });
});
