import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '../../src/base/failure.ts';
import { configObject, fillDefaults, type Settings } from '../../src/kube/config-settings.ts';
import { LIMPET_FIELDS, type LimpetConfig } from '../../src/kube/limpet-config.ts';
import {
  brokerAddress,
  keepAliveSeconds,
  readCredentials,
  relayProblems,
} from '../../src/agent/relay-settings.ts';

function settings(more: Partial<LimpetConfig['relay']>): LimpetConfig['relay'] {
  const all: Settings = new Map();
  fillDefaults(all, LIMPET_FIELDS, true);
  const config = configObject(LIMPET_FIELDS, all) as LimpetConfig;
  return { ...config.relay, broker: 'mqtts://broker.example', ...more };
}

test('the address of a broker', () => {
  const of = (text: string) => brokerAddress(text);
  assert.deepEqual(of('mqtts://b.example'), { host: 'b.example', port: 8883, tls: true });
  assert.deepEqual(of('mqtt://10.0.0.1/'), { host: '10.0.0.1', port: 1883, tls: false });
  assert.deepEqual(of('mqtt://[fd00::1]:99'), { host: 'fd00::1', port: 99, tls: false });
  for (const bad of ['b.example', 'http://b', 'mqtt://', 'mqtt://pi:secret@b', 'mqtt://b/x', '']) {
    assert.throws(
      () => of(bad),
      (error) => error instanceof Failure && !/secret/.test(error.message),
    );
  }
});

test('each wrong setting is a problem of its own; no broker, no problem', () => {
  assert.deepEqual(relayProblems(settings({})), []);
  assert.deepEqual(relayProblems(settings({ broker: '', fleet: '#' })), []);
  for (const [wrong, message] of [
    [{ broker: 'x' }, /relay\.broker/],
    [{ fleet: 'a/b' }, /relay\.fleet/],
    [{ certificateFile: '/c' }, /both or none/],
    [{ passwordFile: '/p' }, /usernameFile/],
    [{ keepAlive: 500 }, /relay\.keepAlive/],
    [{ metricsInterval: 100 }, /relay\.metricsInterval/],
    [{ keepAlive: 70_000_000 }, /relay\.keepAlive/],
  ] as const) {
    const problems = relayProblems(settings(wrong));
    assert.equal(problems.length, 1);
    assert.match(problems[0]!, message);
  }
});

test('the link is tried as often as suits it, or as is wished', () => {
  assert.equal(
    keepAliveSeconds(settings({}), () => false),
    90,
  );
  assert.equal(
    keepAliveSeconds(settings({}), () => true),
    300,
  );
  assert.equal(
    keepAliveSeconds(settings({ keepAlive: 60_000 }), () => true),
    60,
  );
});

test('credentials are read anew each time; a file that is not there is said', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-relay-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const [usernameFile, passwordFile] = [join(directory, 'user'), join(directory, 'password')];
  writeFileSync(usernameFile, 'pi\n');
  const given = settings({ usernameFile, passwordFile });
  await assert.rejects(readCredentials(given), /password/);
  for (const password of ['one', 'two']) {
    writeFileSync(passwordFile, `${password}\n`);
    assert.deepEqual(await readCredentials(given), { username: 'pi', password });
  }
});
