/** The bytes of a crash, counted by the kernel at an interface between the relay and mosquitto. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { WireBytes, WireTask } from './wire.ts';

test('one pod has crashed: at most 400 bytes with all headers, TLS and acknowledgements', (t) => {
  const task: WireTask = { crashes: 8, keepAliveSeconds: 60, idleSeconds: 0 };
  const program = [process.execPath, join(import.meta.dirname, 'wire.ts'), JSON.stringify(task)];
  const said = execFileSync('unshare', ['--net', '--', ...program], { encoding: 'utf8' });
  const { crash, crashAndEvent, connection } = JSON.parse(said) as WireBytes;
  t.diagnostic(`${crash} bytes, ${crashAndEvent} with its event, ${connection} to connect`);
  assert.ok(crash <= 400, `${crash} bytes`);
  // Two acknowledgements of the broker, one after the other, and the text of the event.
  assert.ok(crashAndEvent <= 750, `${crashAndEvent} bytes`);
});
