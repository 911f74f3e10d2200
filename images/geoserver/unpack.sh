#!/bin/bash
# Unpack geoserver.war, find out which servlet engine it needs, and drop its sample data.
set -Eeuo pipefail

WAR=/context/geoserver.war

[[ -s $WAR ]] || {
    echo "geoserver: there is no geoserver.war in the build context; set GISLAB_GEOSERVER_WAR" \
        "to a geoserver.war, or build by 'gislab images', which fetches it" >&2
    exit 1
}
mkdir -p /opt/geoserver/webapp
unzip -q $WAR -d /opt/geoserver/webapp
main=$(cd /opt/geoserver/webapp/WEB-INF && ls lib/gs-main-[0-9]*.jar 2>/dev/null | head -n 1) || true
main=${main#lib/}
version=${main#gs-main-}
version=${version%.jar}
case $version in
    2.*) engine=jetty packages='libjetty9-java' ;;
    3.*) engine=tomcat packages='libtomcat11-java' ;;
    *)
        echo "geoserver: geoserver.war is no GeoServer 2 or 3 (found '${main:-no gs-main jar}')" >&2
        exit 1
        ;;
esac
rm -rf /opt/geoserver/webapp/data
# some archives give their files to the owner alone, and the engine is not root
chmod -R a+rX /opt/geoserver/webapp
printf "VERSION='%s'\nENGINE='%s'\nPACKAGES='%s'\n" "$version" $engine "$packages" \
    | tee /opt/geoserver/engine
