/** Reads by what a cluster is told from another; `node/cluster-identity.ts` compares. */
import { Failure } from '../base/failure.ts';
import type { ClusterIdentity } from '../node/cluster-identity.ts';
import type { ApiClient, CallOptions } from './client.ts';
import { certificatesOf, type Credentials } from './credentials.ts';
import { getObject } from './objects.ts';
import { NODES, SERVICES, type ApiObject, type Key, type Resource } from './resource.ts';

/**
 * Two small requests. What is not there or may not be read is left out.
 *
 * @param resourceVersion Of a list, where one was made.
 * @throws ApiFailure when the cluster could not be asked
 */
export async function readClusterIdentity(
  client: ApiClient,
  credentials: Credentials,
  nodeName: string,
  resourceVersion: string | undefined,
  options: CallOptions,
): Promise<ClusterIdentity> {
  const uidOf = async (resource: Resource<ApiObject>, key: Key): Promise<string | undefined> => {
    try {
      const object = await getObject(client, resource, key, { ...options, metadataOnly: true });
      return object.metadata.uid;
    } catch (error) {
      const code = error instanceof Failure ? error.code : undefined;
      if (code === 'NotFound' || code === 'PermissionDenied') return undefined;
      throw error;
    }
  };
  const { ca } = await credentials.current();
  return {
    caFingerprints: certificatesOf(ca).map(({ fingerprint256 }) => fingerprint256),
    nodeUid: await uidOf(NODES, { name: nodeName }),
    serviceUid: await uidOf(SERVICES, { namespace: 'default', name: 'kubernetes' }),
    resourceVersion,
  };
}
