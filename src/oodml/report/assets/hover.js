// Plotly's hover labels cannot contain images, so the picture of a class is laid over the map.
const map = document.getElementById('{plot_id}');
const pictures = PICTURES;
const shown = document.createElement('img');
shown.alt = '';
shown.style.cssText = 'position:fixed;display:none;width:96px;pointer-events:none;z-index:9;'
  + 'border:1px solid #999;background:#fff';
document.body.appendChild(shown);
map.on('plotly_hover', event => {
  const picture = pictures[event.points[0].customdata[0]];
  if (!picture) return;
  shown.src = picture;
  shown.style.left = event.event.clientX + 16 + 'px';
  shown.style.top = event.event.clientY + 16 + 'px';
  shown.style.display = 'block';
});
map.on('plotly_unhover', () => { shown.style.display = 'none'; });
