/** The bytes of a crash, counted by the kernel at an interface between the relay and mosquitto. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { WireBytes, WireTask } from './wire.ts';

test('one pod has crashed: its status and event are at most 400 bytes, all headers, TLS and acknowledgements', (t) => {
  const task: WireTask = { crashes: 8, keepAliveSeconds: 60, idleSeconds: 0 };
  const program = [process.execPath, join(import.meta.dirname, 'wire.ts'), JSON.stringify(task)];
  const said = execFileSync('unshare', ['--net', '--', ...program], { encoding: 'utf8' });
  const { crash, crashAndEvent, restart, connection } = JSON.parse(said) as WireBytes;
  t.diagnostic(`${crash} bytes, with its event ${crashAndEvent}; started again: ${restart}`);
  t.diagnostic(`${connection} to connect`);
  assert.ok(crash <= 350, `${crash} bytes`);
  assert.ok(crashAndEvent <= 400, `${crashAndEvent} bytes`);
  // Three events, with the name of an image.
  assert.ok(restart <= 500, `${restart} bytes`);
});
