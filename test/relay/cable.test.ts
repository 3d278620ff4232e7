/** A cable that is in again, and a relay that is not to wait any longer. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Cable } from './cable.ts';

test('a cable that is in again ends a pause of minutes', (t) => {
  const program = [process.execPath, join(import.meta.dirname, 'cable.ts')];
  const said = execFileSync('unshare', ['--net', '--', ...program], {
    ...{ encoding: 'utf8', timeout: 60_000 },
  });
  const { pauseMs, connectedAfterMs } = JSON.parse(said) as Cable;
  t.diagnostic(`a pause of ${pauseMs} ms, connected after ${connectedAfterMs} ms`);
  assert.ok(pauseMs >= 120_000, `${pauseMs} ms`);
  assert.ok(connectedAfterMs <= 8000, `${connectedAfterMs} ms`);
});
