/**
 * A real mosquitto with TLS at the other end of a cable: a network namespace of its own, and an
 * interface between it and the one of this process, which must not be the machine's.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority } from '../../scripts/lib/certificates.ts';
import { until } from './world.ts';

/** The interface at this end. */
export const NEAR = 'near';
const NEAR_ADDRESS = '10.9.0.1';
const HOST = '10.9.0.2';
const PORT = 8883;

export async function farBroker() {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-far-'));
  const authority = createAuthority('fleet');
  const { certificate, key } = authority.issue({ name: 'broker', names: [HOST] });
  const [cert, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  writeFileSync(cert, certificate);
  writeFileSync(keyFile, key);
  const config = [
    ...[`listener ${PORT} 0.0.0.0`, 'allow_anonymous true', 'user root'],
    ...[`certfile ${cert}`, `keyfile ${keyFile}`],
  ];
  writeFileSync(join(directory, 'mosquitto.conf'), `${config.join('\n')}\n`);
  const program = ['/usr/sbin/mosquitto', '-c', join(directory, 'mosquitto.conf')];
  const child = spawn('unshare', ['--net', '--', ...program], { stdio: 'ignore' });
  // It is in its namespace when it is no longer the program that brings it there.
  const name = () => readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim();
  await until('mosquitto', () => name() === 'mosquitto');
  const ip = (...args: string[]) => execFileSync('ip', args);
  const farIp = (...args: string[]) =>
    execFileSync('nsenter', [`--net=/proc/${child.pid}/ns/net`, 'ip', ...args]);
  ip('link', 'add', NEAR, 'type', 'veth', 'peer', 'name', 'far', 'netns', String(child.pid));
  // Without it IPv6 would ask for routers and neighbours all the time.
  ip('link', 'set', NEAR, 'addrgenmode', 'none');
  farIp('link', 'set', 'far', 'addrgenmode', 'none');
  ip('addr', 'add', `${NEAR_ADDRESS}/24`, 'dev', NEAR);
  ip('link', 'set', NEAR, 'up');
  farIp('addr', 'add', `${HOST}/24`, 'dev', 'far');
  const plug = () => void farIp('link', 'set', 'far', 'up');
  plug();
  return {
    at: {
      ...{ host: HOST, port: PORT, tls: true },
      credentials: { authority: authority.certificate },
    },
    plug,
    /** Both ends have no carrier any more. */
    unplug: () => void farIp('link', 'set', 'far', 'down'),
    end: () => {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
