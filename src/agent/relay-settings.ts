/** What the relay's part of LimpetConfiguration means, and what is wrong with it. */
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { readCapped } from '../linux/files.ts';
import type { Credentials } from '../mqtt/client.ts';
import { nameProblem } from '../relay/topic.ts';
import type { RelaySettings } from './options.ts';

export type BrokerAddress = { readonly host: string; readonly port: number; readonly tls: boolean };

/** Of `mqtts://HOST[:PORT]`. Throws a `Failure` that says what is wrong; it quotes no password. */
export function brokerAddress(broker: string): BrokerAddress {
  const url = URL.parse(broker);
  const tls = url?.protocol === 'mqtts:';
  const isBad = url === null || url.hostname === '' || (!tls && url.protocol !== 'mqtt:');
  const more = isBad || url.username + url.password + url.search + url.hash !== '';
  if (isBad || more || !['', '/'].includes(url.pathname)) {
    throw new Failure(
      'InvalidArgument',
      'relay.broker must be mqtts://HOST[:PORT] or mqtt://HOST[:PORT], nothing more; ' +
        'user name and password have files of their own',
    );
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return { host, tls, port: url.port === '' ? (tls ? 8883 : 1883) : Number(url.port) };
}

/** What is wrong with the settings, for people. */
export function relayProblems(settings: RelaySettings): readonly string[] {
  if (settings.broker === '') return [];
  const problems: string[] = [];
  try {
    brokerAddress(settings.broker);
  } catch (error) {
    problems.push((error as Error).message);
  }
  const fleet = nameProblem(settings.fleet);
  if (fleet !== undefined) problems.push(`relay.fleet ${fleet}`);
  if ((settings.certificateFile === '') !== (settings.keyFile === '')) {
    problems.push('relay.certificateFile and relay.keyFile go together: give both or none');
  }
  if (settings.passwordFile !== '' && settings.usernameFile === '') {
    problems.push('relay.passwordFile takes a relay.usernameFile');
  }
  const seconds = settings.keepAlive / 1000;
  const isWhole = Number.isInteger(seconds) && seconds >= 10 && seconds <= MAX_KEEP_ALIVE_SECONDS;
  if (seconds !== 0 && !isWhole) {
    problems.push(
      `relay.keepAlive must be whole seconds from 10s to ${MAX_KEEP_ALIVE_SECONDS}s, ` +
        'or 0 for what suits the link',
    );
  }
  const metrics = settings.metricsInterval;
  if (metrics !== 0 && (metrics < MIN_METRICS_MS || metrics > MAX_METRICS_MS)) {
    problems.push('relay.metricsInterval must be from 5s to 24h, or 0 for no metrics');
  }
  return problems;
}

/** A day at rest is below half a megabyte, and a lost link is known after some two minutes. */
const KEEP_ALIVE_SECONDS = 90;
/** Less than after what mobile networks forget a connection, and each one costs. */
const MOBILE_KEEP_ALIVE_SECONDS = 300;

/** Of a connection that is made now. */
export function keepAliveSeconds({ keepAlive }: RelaySettings, isMobile: () => boolean): number {
  if (keepAlive > 0) return keepAlive / 1000;
  return isMobile() ? MOBILE_KEEP_ALIVE_SECONDS : KEEP_ALIVE_SECONDS;
}

const MIN_METRICS_MS = 5_000;
const MAX_METRICS_MS = 24 * 3_600_000;

/** Source: MQTT 5.0, section 3.1.2.10 */
const MAX_KEEP_ALIVE_SECONDS = 65_535;

/** Reads the files as they are now. Throws a `Failure`. */
export async function readCredentials(settings: RelaySettings): Promise<Credentials> {
  const read = async (path: string) =>
    path === '' ? undefined : (await readCapped(path, LIMITS.credentialBytes)).toString('utf8');
  const line = async (path: string) => (await read(path))?.replace(/\r?\n$/, '');
  const [username, password, certificate, key, authority] = [
    await line(settings.usernameFile),
    await line(settings.passwordFile),
    await read(settings.certificateFile),
    await read(settings.keyFile),
    await read(settings.caFile),
  ];
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(certificate !== undefined && { certificate }),
    ...(key !== undefined && { key }),
    ...(authority !== undefined && { authority }),
  };
}
